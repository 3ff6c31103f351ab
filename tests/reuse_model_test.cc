#include "lib/reuse_model.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "gtest/gtest.h"

namespace quire {

// Sees the counts behind the values, and values of hazards that the test chooses.
struct ReuseModelPeer {
  static double Reached(const ReuseModel& model, int32_t page_class, size_t age) {
    return model.reached_[model.Index(page_class, age)];
  }
  static double Hits(const ReuseModel& model, int32_t page_class, size_t age) {
    return model.hit_[model.Index(page_class, age)];
  }
  static int32_t LeastLeft(const ReuseModel& model) {
    return *std::min_element(model.left_.begin(), model.left_.end());
  }
  static void SetValues(ReuseModel* model, const std::vector<double>& hazard) {
    ReuseModel::Ages ages{};
    std::copy(hazard.begin(), hazard.end(), ages.begin());
    model->SetValues(0, ages);
  }
};

namespace {

constexpr int32_t kEpochs = ReuseModel::kEpochs;
constexpr double kKept = 0.992F;  // of a count, at each look
constexpr int32_t kLearn = 16;    // epochs between two looks

// Where the ages begin: four to an octave, as far as whole epochs allow.
const std::vector<int32_t> kBegin = {0,  1,   2,   3,   4,   5,   6,   7,   8,   10, 12,
                                     14, 17,  20,  24,  29,  34,  40,  48,  57,  68, 81,
                                     96, 114, 136, 162, 193, 229, 272, 323, 384, 457};
const size_t kAges = kBegin.size();

int32_t Width(size_t age) { return (age + 1 < kAges ? kBegin[age + 1] : kEpochs) - kBegin[age]; }
size_t AgeOf(int64_t epochs) {
  return static_cast<size_t>(std::upper_bound(kBegin.begin(), kBegin.end(), epochs) -
                             kBegin.begin() - 1);
}
double ValueAt(const ReuseModel& model, int32_t page_class, size_t age) {
  return model.Value(page_class, static_cast<uint16_t>(kBegin[age]));
}
void Tick(ReuseModel* model, int32_t count) {
  for (int32_t i = 0; i < count; ++i) model->Tick();
}
void Enter(ReuseModel* model, int32_t page_class, int32_t count) {
  for (int32_t i = 0; i < count; ++i) model->Enter(page_class);
}
void Hit(ReuseModel* model, int32_t page_class, uint16_t epoch, int32_t count) {
  for (int32_t i = 0; i < count; ++i) model->Hit(page_class, epoch);
}
void Leave(ReuseModel* model, int32_t page_class, uint16_t epoch, int32_t count) {
  for (int32_t i = 0; i < count; ++i) model->Leave(page_class, epoch);
}

// Counts are floats: each look rounds them by 2^-24 at most, and 64 looks by 2^-18.
void ExpectSame(double a, double b) { EXPECT_NEAR(a, b, std::abs(b) / (1 << 18)); }

// Looks in epochs (since, now].
int64_t Looks(int64_t since, int64_t now) { return now / kLearn - since / kLearn; }

using Hazard = std::vector<double>;

// The most hits for each epoch of a page at the beginning of `age`, by trying every time at which
// it may be given up. A hit stands in the middle of its age.
double BestValue(const Hazard& hazard, size_t age) {
  double best = 0;
  double hits = 0;
  double time = 0;
  double alive = 1;
  for (size_t a = age; a < hazard.size(); ++a) {
    hits += alive * hazard[a];
    time += alive * Width(a) * (1 - hazard[a] / 2);
    alive *= 1 - hazard[a];
    best = std::max(best, hits / time);
  }
  return best;
}

// --- Nothing seen ---

TEST(ReuseModelTest, WithNothingSeenClassesAreAlikeAndValueFallsWithAge) {
  ReuseModel model(3, 4);
  for (int32_t c = 0; c < 12; ++c) model.Enter(c);  // a class has values from then on
  for (int32_t epochs = 0; epochs < kEpochs; ++epochs) {
    const double value = model.Value(0, static_cast<uint16_t>(epochs));
    EXPECT_GT(value, 0);
    for (int32_t c = 1; c < 12; ++c) {
      ASSERT_EQ(model.Value(c, static_cast<uint16_t>(epochs)), value);
    }
    if (epochs == 0) continue;
    const double younger = model.Value(0, static_cast<uint16_t>(epochs - 1));
    if (AgeOf(epochs) == AgeOf(epochs - 1)) {
      ASSERT_EQ(value, younger) << epochs;
    } else {
      ASSERT_LT(value, younger) << epochs;
    }
  }
}

// The last age is 457 to 512, 55 epochs. Assumed are, for a pool of 64 epochs,
//   expected = .3 * (55/64) / (1 + 457/64) = .0316699      hazard = expected / (1 + expected)
//   value    = hazard / (55 * (1 - hazard/2)) = .0306977 / (55 * .9846512)
TEST(ReuseModelTest, TheLastValueByHand) {
  ReuseModel model(1, 1);
  model.Enter(0);
  EXPECT_NEAR(model.Value(0, 457), .000566842, 1e-8);
  EXPECT_EQ(model.Value(0, 511), model.Value(0, 457));
}

TEST(ReuseModelTest, BeyondTheEpochsAPageIsVeryOld) {
  ReuseModel model(1, 1);
  model.Enter(0);
  EXPECT_EQ(model.Value(0, 512), model.Value(0, 511));
  EXPECT_EQ(model.Value(0, 65535), model.Value(0, 511));
  EXPECT_LT(model.Value(0, 512), model.Value(0, 456));
}

// --- Counts ---

// Five pages of class 1 let go in epoch 13. Two are hit at once; one leaves in epoch 15; one is hit
// in epoch 16; one stays. So 5 reached age 0 and 2 of them were hit in it, 3 reached age 1, 3 age 2
// (the one left during it), 2 age 3 and 1 of them was hit in it, 1 age 4.
// The look of epoch 16 takes its part of what was counted before it, age 3 included, which was
// reached at that border. What is counted after it is whole.
TEST(ReuseModelTest, CountsByHand) {
  ReuseModel model(2, 1);
  Tick(&model, 13);
  Enter(&model, 1, 5);
  Hit(&model, 1, 13, 2);
  Tick(&model, 2);
  EXPECT_EQ(ReuseModelPeer::Reached(model, 1, 0), 5);
  EXPECT_EQ(ReuseModelPeer::Hits(model, 1, 0), 2);
  model.Leave(1, 13);
  model.Tick();
  model.Hit(1, 13);
  Tick(&model, 3);
  EXPECT_EQ(model.now(), 19);
  EXPECT_EQ(model.Age(13), 6);
  const std::array<float, 7> reached = {5 * .992F, 3 * .992F, 3 * .992F, 2 * .992F, 1, 1, 1};
  const std::array<float, 7> hits = {2 * .992F, 0, 0, 1, 0, 0, 0};
  for (size_t a = 0; a < reached.size(); ++a) {
    EXPECT_EQ(ReuseModelPeer::Reached(model, 1, a), reached[a]);
    EXPECT_EQ(ReuseModelPeer::Hits(model, 1, a), hits[a]);
    EXPECT_EQ(ReuseModelPeer::Reached(model, 0, a), 0);
    EXPECT_EQ(ReuseModelPeer::Hits(model, 0, a), 0);
  }
  EXPECT_EQ(ReuseModelPeer::Reached(model, 1, 7), 0);
}

// Half of a count is left after 20 times the pool: 20 * 64 epochs, 80 looks.
TEST(ReuseModelTest, CountsLoseTheirWeightAtEachLook) {
  ReuseModel model(1, 1);
  Enter(&model, 0, 1000);
  Hit(&model, 0, 0, 500);
  for (int32_t look = 0; look <= 80; ++look) {
    ExpectSame(ReuseModelPeer::Reached(model, 0, 0), 1000 * std::pow(kKept, look));
    ExpectSame(ReuseModelPeer::Hits(model, 0, 0), 500 * std::pow(kKept, look));
    Tick(&model, kLearn);
  }
}

TEST(ReuseModelTest, AHitCountsInItsAge) {
  for (const int32_t epochs : {0, 1, 9, 10, 456, 457, 511}) {
    ReuseModel model(1, 1);
    model.Enter(0);
    Tick(&model, epochs);
    model.Hit(0, 0);
    for (size_t a = 0; a < kAges; ++a) {
      EXPECT_EQ(ReuseModelPeer::Hits(model, 0, a), a == AgeOf(epochs) ? 1 : 0) << epochs;
    }
  }
}

// A row of counts serves epoch 0 and epoch 512: what happens to pages of the first must not touch
// those of the second, from the very border on.
TEST(ReuseModelTest, PagesBeyondTheEpochsAreNoLongerFollowed) {
  ReuseModel model(1, 1);
  Enter(&model, 0, 3);
  Tick(&model, kEpochs - 1);
  model.Leave(0, 0);  // the last moment
  model.Tick();
  EXPECT_EQ(model.Age(0), kEpochs);
  Enter(&model, 0, 10);  // in epoch 512
  model.Hit(0, 0);
  model.Leave(0, 0);
  for (size_t a = 0; a < kAges; ++a) EXPECT_EQ(ReuseModelPeer::Hits(model, 0, a), 0);
  model.Tick();
  // Age 1 was reached by three, 512 epochs and 32 looks ago, and by ten now.
  ExpectSame(ReuseModelPeer::Reached(model, 0, 1), 3 * std::pow(kKept, 32) + 10);
}

TEST(ReuseModelTest, EpochsGoOnBeyond16Bits) {
  ReuseModel model(1, 1);
  Tick(&model, 65534);
  model.Enter(0);
  Tick(&model, 5);
  EXPECT_EQ(model.now(), 3);
  EXPECT_EQ(model.Age(65534), 5);
  model.Hit(0, 65534);
  EXPECT_EQ(ReuseModelPeer::Hits(model, 0, 5), 1);
  EXPECT_EQ(ReuseModelPeer::Reached(model, 0, 5), 1);
  EXPECT_EQ(ReuseModelPeer::LeastLeft(model), 0);
}

// Untouched for 2^16 epochs, a page looks young. It is not among those counted, so it must not be
// counted as one of them.
TEST(ReuseModelTest, APageThatLooksYoungAgainIsNotCounted) {
  ReuseModel model(1, 1);
  Enter(&model, 0, 2);
  Tick(&model, 65536 + 3);
  EXPECT_EQ(model.Age(0), 3);
  model.Hit(0, 0);
  model.Leave(0, 0);
  EXPECT_EQ(ReuseModelPeer::LeastLeft(model), 0);
  EXPECT_EQ(ReuseModelPeer::Hits(model, 0, 3), 0);
}

// --- What least recently used order would keep ---

// Let go are 4 pages in epoch 2, 3 of two classes in epoch 5, and 2 in epoch 6. It is epoch 8.
TEST(ReuseModelTest, AgeOfLastByHand) {
  ReuseModel model(2, 2);
  EXPECT_EQ(model.AgeOfLast(1), kEpochs);  // nothing was let go
  Tick(&model, 2);
  Enter(&model, 0, 4);
  EXPECT_EQ(model.AgeOfLast(4), 0);
  EXPECT_EQ(model.AgeOfLast(5), kEpochs);
  Tick(&model, 3);
  Enter(&model, 1, 1);
  Enter(&model, 3, 2);
  model.Tick();
  Enter(&model, 2, 2);
  Tick(&model, 2);
  const auto ages = [&model](int64_t most) {
    std::vector<int32_t> ages;
    for (int64_t pages = 1; pages <= most; ++pages) ages.push_back(model.AgeOfLast(pages));
    return ages;
  };
  EXPECT_EQ(ages(10), (std::vector<int32_t>{2, 2, 3, 3, 3, 6, 6, 6, 6, kEpochs}));
  EXPECT_EQ(model.AgeOfLast(int64_t{1} << 40), kEpochs);
  // Those hit or given up for good are not among them, and who was not among them changes nothing.
  model.Hit(3, 5);
  model.Leave(1, 5);
  model.Hit(1, 5);
  model.Hit(2, 5);
  model.Leave(0, 8);
  EXPECT_EQ(ages(8), (std::vector<int32_t>{2, 2, 3, 6, 6, 6, 6, kEpochs}));
  Hit(&model, 2, 6, 2);
  Leave(&model, 3, 5, 1);
  EXPECT_EQ(ages(5), (std::vector<int32_t>{6, 6, 6, 6, kEpochs}));
}

// A count serves epoch 0 and epoch 512: what is older than the epochs is not among the last, even
// where it shares the count.
TEST(ReuseModelTest, AgeOfLastForgetsWhatIsOlderThanTheEpochs) {
  ReuseModel model(1, 2);
  Enter(&model, 0, 3);
  model.Tick();
  Enter(&model, 1, 2);
  Tick(&model, kEpochs - 2);
  EXPECT_EQ(model.AgeOfLast(2), kEpochs - 2);
  EXPECT_EQ(model.AgeOfLast(5), kEpochs - 1);
  EXPECT_EQ(model.AgeOfLast(6), kEpochs);
  model.Tick();
  EXPECT_EQ(model.AgeOfLast(2), kEpochs - 1);
  EXPECT_EQ(model.AgeOfLast(3), kEpochs);
  Enter(&model, 0, 1);  // in epoch 512
  Hit(&model, 0, 0, 2);
  EXPECT_EQ(model.AgeOfLast(1), 0);
  EXPECT_EQ(model.AgeOfLast(2), kEpochs - 1);
  EXPECT_EQ(model.AgeOfLast(4), kEpochs);
  model.Tick();
  EXPECT_EQ(model.AgeOfLast(1), 1);
  EXPECT_EQ(model.AgeOfLast(2), kEpochs);
  Tick(&model, 3 * kEpochs);
  Enter(&model, 1, 1);
  EXPECT_EQ(model.AgeOfLast(1), 0);
  EXPECT_EQ(model.AgeOfLast(2), kEpochs);
}

// --- The whole, against a count that visits every page ---

// What is assumed before anything was seen.
Hazard FirstHazard() {
  Hazard hazard(kAges);
  for (size_t a = 0; a < kAges; ++a) {
    const double expected = .3 * Width(a) / 64 / (1 + kBegin[a] / 64.);
    hazard[a] = expected / (1 + expected);
  }
  return hazard;
}

// Keeps each lot of pages and its fate, and counts anew whenever it is asked.
class SlowModel {
 public:
  struct Lot {
    int32_t page_class;
    int64_t epoch;
    int32_t count;
    int64_t end = INT64_MAX;  // the epoch in which it was hit or left
    bool hit = false;
  };
  std::vector<Lot> lots;
  int64_t now = 0;
  std::vector<Hazard> of_class;   // [class] since the last look, or since it began
  std::vector<Hazard> of_family;  // [family]

  SlowModel(int32_t families, int32_t members)
      : of_class(static_cast<size_t>(families * members), FirstHazard()),
        of_family(static_cast<size_t>(families), FirstHazard()),
        members_(members) {}

  bool Entered(int32_t page_class) const {
    return std::any_of(lots.begin(), lots.end(), [page_class](const Lot& lot) {
      return lot.page_class == page_class && lot.count > 0;
    });
  }
  void Look() {
    const auto members = static_cast<size_t>(members_);
    const size_t classes = of_class.size();
    std::vector<Seen> seen(classes);
    for (size_t c = 0; c < classes; ++c) seen[c] = Count(static_cast<int32_t>(c));
    const Seen all = Sum(seen, 0, classes);
    Hazard assumed = FirstHazard();
    for (size_t a = 0; a < kAges; ++a) {
      assumed[a] = (all.hit[a] + 20 * assumed[a]) / (all.reached[a] + 20);
    }
    assumed = Smooth(assumed);
    for (size_t c = 0; c < classes; ++c) {
      Hazard& family = of_family[c / members];
      if (c % members == 0) family = Lean(Sum(seen, c, c + members), assumed);
      of_class[c] = Lean(seen[c], family);
    }
  }

 private:
  struct Seen {
    std::vector<double> reached = std::vector<double>(kAges);
    std::vector<double> hit = std::vector<double>(kAges);
  };
  Seen Count(int32_t page_class) const {
    Seen seen;
    const auto kept = [this](int64_t since) {
      return std::pow(kKept, static_cast<double>(Looks(since, now)));
    };
    for (const Lot& lot : lots) {
      if (lot.page_class != page_class) continue;
      for (size_t a = 0; a < kAges; ++a) {
        const int64_t at = lot.epoch + kBegin[a];
        if (at > now || (a > 0 && at > lot.end)) break;
        // At the border, which is before a look of that epoch.
        seen.reached[a] += lot.count * kept(a == 0 ? at : at - 1);
      }
      const int64_t age = lot.end - lot.epoch;
      if (lot.hit && age < kEpochs) seen.hit[AgeOf(age)] += lot.count * kept(lot.end);
    }
    return seen;
  }
  static Seen Sum(const std::vector<Seen>& seen, size_t begin, size_t end) {
    Seen sum;
    for (size_t c = begin; c < end; ++c) {
      for (size_t a = 0; a < kAges; ++a) {
        sum.reached[a] += seen[c].reached[a];
        sum.hit[a] += seen[c].hit[a];
      }
    }
    return sum;
  }
  // Each hazard for a unit of time and its neighbours', 1 to 2 to 1; the ends stay.
  static Hazard Smooth(const Hazard& hazard) {
    Hazard smooth = hazard;
    for (size_t a = 1; a + 1 < kAges; ++a) {
      double rate = 0;
      for (const auto& [i, weight] : {std::pair{a - 1, 1}, {a, 2}, {a + 1, 1}}) {
        rate += weight * hazard[i] / Width(i);
      }
      smooth[a] = std::min(1., rate / 4 * Width(a));
    }
    return smooth;
  }
  // What was seen, with 2000 pages of what is assumed, times the factor that fits the hits.
  static Hazard Lean(const Seen& seen, const Hazard& assumed) {
    double hits = 5;
    double expected = 5;
    for (size_t a = 0; a < kAges; ++a) {
      hits += seen.hit[a];
      expected += seen.reached[a] * assumed[a];
    }
    Hazard hazard(kAges);
    for (size_t a = 0; a < kAges; ++a) {
      const double fitted = std::min(1., assumed[a] * (hits / expected));
      hazard[a] = std::min(1., (seen.hit[a] + 2000 * fitted) / (seen.reached[a] + 2000));
    }
    return Smooth(hazard);
  }

  int32_t members_;
};

// 75 looks round hits and pages by 2^-24 each: both together, less than 1e-5.
void ExpectValues(const ReuseModel& model, int32_t page_class, const Hazard& hazard) {
  for (size_t a = 0; a < kAges; ++a) {
    const double expected = BestValue(hazard, a);
    ASSERT_NEAR(ValueAt(model, page_class, a), expected, 1e-5 * expected)
        << "class " << page_class << " age " << kBegin[a] << " at " << model.now();
  }
}

TEST(ReuseModelTest, ValuesAgreeWithACountOfEveryPage) {
  constexpr int32_t kFamilies = 2;
  constexpr int32_t kMembers = 3;
  constexpr int32_t kLate = 4;             // a class of the second family
  constexpr int64_t kBegins = 5 * 80 + 7;  // between two looks
  ReuseModel model(kFamilies, kMembers);
  SlowModel slow(kFamilies, kMembers);
  std::mt19937 random(11);
  while (slow.now < 1200) {
    for (int i = 0; i < 3; ++i) {
      const auto c = static_cast<int32_t>(random() % (kFamilies * kMembers));
      const auto count = static_cast<int32_t>(random() % 400);
      if (c == kLate && slow.now < kBegins) continue;
      const bool first = !slow.Entered(c) && count > 0;
      Enter(&model, c, count);
      slow.lots.push_back({.page_class = c, .epoch = slow.now, .count = count});
      if (!first) continue;  // it begins with what its family had at the last look
      slow.of_class[static_cast<size_t>(c)] = slow.of_family[static_cast<size_t>(c / kMembers)];
      ASSERT_NO_FATAL_FAILURE(ExpectValues(model, c, slow.of_class[static_cast<size_t>(c)]));
    }
    // Classes differ in how often they are hit, and at which ages.
    for (SlowModel::Lot& lot : slow.lots) {
      const int64_t age = slow.now - lot.epoch;
      if (lot.end != INT64_MAX || age > 700) continue;
      const uint32_t fate = random() % 200;
      if (fate >= 2 + static_cast<uint32_t>(lot.page_class) && (age > 3 || fate < 190)) continue;
      lot.end = slow.now;
      lot.hit = fate != 0;
      const auto epoch = static_cast<uint16_t>(lot.epoch);
      if (lot.hit) {
        Hit(&model, lot.page_class, epoch, lot.count);
      } else {
        Leave(&model, lot.page_class, epoch, lot.count);
      }
    }
    model.Tick();
    ++slow.now;
    if (slow.now % kLearn == 0) slow.Look();
    if (slow.now % 80 != 0 && slow.now % 80 != 15) continue;  // at a look, and before the next
    for (int32_t c = 0; c < kFamilies * kMembers; ++c) {
      if (!slow.Entered(c)) continue;
      ASSERT_NO_FATAL_FAILURE(ExpectValues(model, c, slow.of_class[static_cast<size_t>(c)]));
    }
  }
  EXPECT_TRUE(slow.Entered(kLate));
  EXPECT_EQ(ReuseModelPeer::LeastLeft(model), 0);
}

TEST(ReuseModelTest, StretchesAgreeWithTryingEveryEnd) {
  std::mt19937 random(5);
  const auto unit = [&random] { return static_cast<double>(random() % 1000) / 1000; };
  for (int run = 0; run < 300; ++run) {
    ReuseModel model(1, 1);
    Hazard hazard(kAges);
    for (size_t a = 0; a < kAges; ++a) {
      hazard[a] = run % 3 == 0 ? unit() : random() % 4 == 0 ? unit() : unit() / 100;
      if (random() % 10 == 0) hazard[a] = static_cast<double>(random() % 2);
    }
    ReuseModelPeer::SetValues(&model, hazard);
    for (size_t a = 0; a < kAges; ++a) {
      const double expected = BestValue(hazard, a);
      ASSERT_NEAR(ValueAt(model, 0, a), expected, 1e-12 + 1e-9 * expected) << run << " " << a;
    }
  }
}

// --- What follows from it ---

// Lets `count` pages go in each of some epochs; those of them that are hit are hit `age` later.
void Train(ReuseModel* model, int32_t page_class, int32_t count, int32_t hits, int32_t age,
           int32_t epochs) {
  for (int32_t i = 0; i < epochs; ++i) {
    Enter(model, page_class, count);
    if (i >= age) Hit(model, page_class, static_cast<uint16_t>(model->now() - age), hits);
    model->Tick();
  }
}

TEST(ReuseModelTest, NothingIsLearnedBetweenTwoLooks) {
  ReuseModel model(3, 2);
  model.Enter(0);
  const double first = model.Value(0, 0);
  for (int32_t i = 1; i < kLearn; ++i) {
    for (int32_t c = 0; c < 3; ++c) Enter(&model, c, 1000);
    Hit(&model, 0, model.now(), 900);
    model.Tick();
  }
  // Classes that begin before the first look are like all others.
  model.Enter(5);
  for (const int32_t c : {0, 1, 2, 5}) {
    for (size_t a = 0; a < kAges; ++a) {
      ASSERT_EQ(ValueAt(model, c, a), ValueAt(model, 0, a)) << c << " " << a;
    }
    EXPECT_EQ(model.Value(c, 0), first);
  }
  model.Tick();
  EXPECT_GT(model.Value(0, 0), first);
  EXPECT_LT(model.Value(1, 0), model.Value(0, 0));
  EXPECT_LT(model.Value(2, 0), model.Value(1, 0));
}

TEST(ReuseModelTest, AClassThatIsHitIsWorthMoreThanOneThatIsNot) {
  ReuseModel model(2, 2);
  for (int32_t i = 0; i < 160; ++i) {
    for (const int32_t c : {0, 1, 2}) Enter(&model, c, 20);
    if (i >= 2) Hit(&model, 1, static_cast<uint16_t>(i - 2), 20);
    model.Tick();
  }
  model.Enter(3);
  for (const int32_t epochs : {0, 1, 2}) {
    const auto age = static_cast<uint16_t>(epochs);
    EXPECT_GT(model.Value(1, age), 4 * model.Value(0, age));  // the same family
    EXPECT_GT(model.Value(1, age), 4 * model.Value(2, age));
    // Of class 3 nothing was seen: it is like its family, where nothing was hit.
    EXPECT_GT(model.Value(3, age), 0);
    EXPECT_GT(model.Value(1, age), 4 * model.Value(3, age));
  }
}

TEST(ReuseModelTest, AClassWithoutEvidenceIsLikeItsFamily) {
  ReuseModel model(2, 2);
  for (int32_t i = 0; i < 320; ++i) {
    Enter(&model, 0, 100);
    Enter(&model, 2, 100);
    Hit(&model, 0, model.now(), 60);
    model.Tick();
  }
  model.Enter(1);
  model.Enter(3);
  EXPECT_GT(model.Value(1, 0), 5 * model.Value(3, 0));
  EXPECT_GT(model.Value(3, 0), 0);
}

TEST(ReuseModelTest, AHumpMakesPagesWorthMoreShortlyBeforeIt) {
  ReuseModel model(1, 1);
  Train(&model, 0, 100, 80, /*age=*/40, 320);
  EXPECT_GT(model.Value(0, 34), 1.5 * model.Value(0, 17));
  EXPECT_GT(model.Value(0, 17), 1.2 * model.Value(0, 0));
  EXPECT_GT(model.Value(0, 40), 5 * model.Value(0, 57));  // and little when it is over
}

// Pages that leave are no evidence against a later hit.
TEST(ReuseModelTest, LeavingCensors) {
  ReuseModel left(1, 1);
  ReuseModel stayed(1, 1);
  for (int32_t i = 0; i < 320; ++i) {
    for (ReuseModel* model : {&left, &stayed}) {
      Enter(model, 0, 100);
      if (i >= 5) Leave(model, 0, static_cast<uint16_t>(i - 5), model == &left ? 90 : 0);
      if (i >= 40) Hit(model, 0, static_cast<uint16_t>(i - 40), 8);
      model->Tick();
    }
  }
  // Of ten that were still there 8 were hit, and of a hundred 8.
  EXPECT_GT(left.Value(0, 40), 3 * stayed.Value(0, 40));
}

TEST(ReuseModelTest, TrafficOfThePastIsForgotten) {
  ReuseModel model(2, 1);
  const auto phase = [&model](int32_t hit_class) {
    for (int32_t i = 0; i < 20 * 64; ++i) {
      Enter(&model, 0, 20);
      Enter(&model, 1, 20);
      Hit(&model, hit_class, model.now(), 15);
      model.Tick();
    }
  };
  phase(0);
  EXPECT_GT(model.Value(0, 0), 3 * model.Value(1, 0));
  // Twice as long, or the past would weigh as much as the present.
  phase(1);
  phase(1);
  EXPECT_GT(model.Value(1, 0), 1.5 * model.Value(0, 0));
}

TEST(ReuseModelTest, TheSameHistoryGivesTheSameValues) {
  ReuseModel a(5, 16);
  ReuseModel b(5, 16);
  for (ReuseModel* model : {&a, &b}) {
    std::mt19937 random(1);
    for (int32_t i = 0; i < 200; ++i) {
      for (int32_t c = 0; c < 80; ++c) {
        model->Enter(c);
        if (random() % 3 == 0) model->Hit(c, model->now());
      }
      model->Tick();
    }
  }
  for (int32_t c = 0; c < 80; ++c) {
    for (size_t age = 0; age < kAges; ++age) ASSERT_EQ(ValueAt(a, c, age), ValueAt(b, c, age));
  }
  EXPECT_NE(a.Value(0, 0), a.Value(1, 0));
}

TEST(ReuseModelTest, Bytes) {
  const ReuseModel model(2, 3);
  // A double and two floats for class and age, a count for class and epoch and one for all classes
  // of an epoch, an age for an epoch.
  EXPECT_EQ(model.bytes(),
            6 * static_cast<int64_t>(kAges) * 16 + 6 * kEpochs * 4 + kEpochs * 4 + kEpochs);
}

}  // namespace
}  // namespace quire
