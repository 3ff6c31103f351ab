#include "lib/reuse_model.h"

#include <algorithm>

#include "lib/check.h"

namespace quire {

namespace {

// Weight of what the family says, in pages seen. Pages of one request share its fate, some tens of
// them, so this stands for the evidence of a hundred requests or so. Anything from 500 to 3000
// gives the same hit rates within .003 on the traces of docs/policies.md.
constexpr double kFamilyWeight = 2000;
// Weight of the hazard assumed before anything was seen.
constexpr double kFirstWeight = 20;
// Of the factor between a class and its family: as if this many hits had been seen as expected.
constexpr double kFactorWeight = 5;
// What was seen loses half its weight in about 20 times the pool's size of indexed pages: traffic
// changes in hours, and 20 pools are some hours of a busy server.
constexpr float kKeptEachTime = 0.992F;  // 0.9995 each epoch
// Epochs between two looks at what was learned: a quarter of the pool.
constexpr uint64_t kLearnEvery = 16;

}  // namespace

ReuseModel::ReuseModel(int32_t families, int32_t members)
    : families_(families),
      members_(members),
      classes_(static_cast<size_t>(families) * static_cast<size_t>(members)) {
  // Ages of equal ratio, a quarter of an octave, as far as whole epochs allow.
  for (int32_t begin = 0; begin < kEpochs;
       begin = std::max(begin + 1, (begin * 1189 + 500) / 1000)) {
    begin_[ages_++] = begin;
    QUIRE_CHECK(ages_ < kMaxAges, "kMaxAges is too small for kEpochs");
  }
  begin_[ages_] = kEpochs;
  age_of_.resize(kEpochs);
  for (size_t a = 0; a < ages_; ++a) {
    std::fill(age_of_.begin() + begin_[a], age_of_.begin() + begin_[a + 1],
              static_cast<uint8_t>(a));
    const double width = static_cast<double>(begin_[a + 1] - begin_[a]) / kEpochsPerPool;
    const double expected = 0.3 * width / (1 + static_cast<double>(begin_[a]) / kEpochsPerPool);
    first_hazard_[a] = expected / (1 + expected);
  }
  reached_.resize(classes_ * ages_);
  hit_.resize(classes_ * ages_);
  QUIRE_CHECK(classes_ <= 256, "a class is kept in a byte");
  of_family_.assign(static_cast<size_t>(families), first_hazard_);
  is_seen_.resize(classes_);
  seen_.reserve(classes_);
  values_.resize(classes_ * ages_);
  left_.resize(classes_ * kEpochs);
  left_all_.resize(kEpochs);
}

void ReuseModel::Enter(int32_t page_class) {
  uint8_t& is_seen = is_seen_[static_cast<size_t>(page_class)];
  if (is_seen == 0) {
    is_seen = 1;
    seen_.push_back(static_cast<uint8_t>(page_class));
    SetValues(page_class, of_family_[static_cast<size_t>(page_class / members_)]);
  }
  ++Left(page_class, now());
  ++left_all_[now() % kEpochs];
  reached_[Index(page_class, 0)] += 1;
}

bool ReuseModel::TakeLeft(int32_t page_class, uint16_t epoch) {
  if (Age(epoch) >= kEpochs) return false;
  int32_t& left = Left(page_class, epoch);
  if (left == 0) return false;
  --left;
  --left_all_[epoch % kEpochs];
  return true;
}

void ReuseModel::Hit(int32_t page_class, uint16_t epoch) {
  if (TakeLeft(page_class, epoch)) hit_[Index(page_class, AgeOf(Age(epoch)))] += 1;
}

void ReuseModel::Leave(int32_t page_class, uint16_t epoch) { TakeLeft(page_class, epoch); }

void ReuseModel::Tick() {
  ++now_;
  for (size_t a = 1; a < ages_; ++a) {
    const auto back = static_cast<uint64_t>(begin_[a]);
    if (back > now_) break;
    const int32_t* left = &left_[((now_ - back) % kEpochs) * classes_];
    float* reached = &reached_[a * classes_];
    for (const uint8_t c : seen_) reached[c] += static_cast<float>(left[c]);
  }
  const auto oldest = left_.begin() + static_cast<int64_t>((now_ % kEpochs) * classes_);
  std::fill(oldest, oldest + static_cast<int64_t>(classes_), 0);
  left_all_[now_ % kEpochs] = 0;
  if (now_ % kLearnEvery != 0) return;
  for (float& count : reached_) count *= kKeptEachTime;
  for (float& count : hit_) count *= kKeptEachTime;
  Learn();
}

void ReuseModel::AddSeen(int32_t page_class, Seen* seen) const {
  if (is_seen_[static_cast<size_t>(page_class)] == 0) return;
  for (size_t a = 0; a < ages_; ++a) {
    seen->reached[a] += reached_[Index(page_class, a)];
    seen->hit[a] += hit_[Index(page_class, a)];
  }
}

// Ages are narrow and few pages reach the old ones: each hazard a unit of time is averaged with its
// neighbours.
void ReuseModel::Smooth(Ages* hazard) const {
  Ages rate{};
  for (size_t a = 0; a < ages_; ++a) rate[a] = (*hazard)[a] / (begin_[a + 1] - begin_[a]);
  for (size_t a = 1; a + 1 < ages_; ++a) {
    const double smooth = (rate[a - 1] + 2 * rate[a] + rate[a + 1]) / 4;
    (*hazard)[a] = std::min(1.0, smooth * (begin_[a + 1] - begin_[a]));
  }
}

ReuseModel::Ages ReuseModel::Hazard(const Seen& seen, const Ages& family) const {
  double hits = kFactorWeight;
  double expected = kFactorWeight;
  for (size_t a = 0; a < ages_; ++a) {
    hits += seen.hit[a];
    expected += seen.reached[a] * family[a];
  }
  Ages hazard{};
  for (size_t a = 0; a < ages_; ++a) {
    const double assumed = std::min(1.0, family[a] * hits / expected);
    hazard[a] =
        std::min(1.0, (seen.hit[a] + kFamilyWeight * assumed) / (seen.reached[a] + kFamilyWeight));
  }
  Smooth(&hazard);
  return hazard;
}

ReuseModel::Ages ReuseModel::HazardOfAll() const {
  Seen all;
  for (int32_t c = 0; c < static_cast<int32_t>(classes_); ++c) AddSeen(c, &all);
  Ages hazard{};
  for (size_t a = 0; a < ages_; ++a) {
    hazard[a] = (all.hit[a] + kFirstWeight * first_hazard_[a]) / (all.reached[a] + kFirstWeight);
  }
  Smooth(&hazard);
  return hazard;
}

void ReuseModel::Learn() {
  const Ages of_all = HazardOfAll();
  for (int32_t family = 0; family < families_; ++family) {
    Seen seen_family;
    for (int32_t m = 0; m < members_; ++m) AddSeen(family * members_ + m, &seen_family);
    const Ages& of_family = of_family_[static_cast<size_t>(family)] = Hazard(seen_family, of_all);
    for (int32_t c = family * members_; c < (family + 1) * members_; ++c) {
      if (is_seen_[static_cast<size_t>(c)] == 0) continue;
      Seen seen;
      AddSeen(c, &seen);
      SetValues(c, Hazard(seen, of_family));
    }
  }
}

// From the oldest age back. To keep a page through an age is worth hits over time; where what
// follows is worth more than the age itself, the two are one stretch, for who stays here would stay
// there too.
void ReuseModel::SetValues(int32_t page_class, const Ages& hazard) {
  struct Stretch {
    double hits, time, survives;  // expected, of a page that enters it
  };
  std::array<Stretch, kMaxAges> later;
  size_t count = 0;
  for (size_t a = ages_; a-- > 0;) {
    const double width = begin_[a + 1] - begin_[a];
    Stretch stretch{hazard[a], width * (1 - hazard[a] / 2), 1 - hazard[a]};
    while (count > 0) {
      const Stretch& next = later[count - 1];
      if (next.hits * stretch.time <= stretch.hits * next.time) break;
      stretch.hits += stretch.survives * next.hits;
      stretch.time += stretch.survives * next.time;
      stretch.survives *= next.survives;
      --count;
    }
    later[count++] = stretch;
    values_[static_cast<size_t>(page_class) * ages_ + a] = stretch.hits / stretch.time;
  }
}

int32_t ReuseModel::AgeOfLast(int64_t pages) const {
  int32_t age = 0;
  for (; age < kEpochs && static_cast<uint64_t>(age) <= now_; ++age) {
    pages -= left_all_[(now_ - static_cast<uint64_t>(age)) % kEpochs];
    if (pages <= 0) return age;
  }
  return kEpochs;
}

int64_t ReuseModel::bytes() const {
  return static_cast<int64_t>(values_.size() * sizeof(double) +
                              (reached_.size() + hit_.size()) * sizeof(float) +
                              (left_.size() + left_all_.size()) * sizeof(int32_t) + age_of_.size());
}

}  // namespace quire
