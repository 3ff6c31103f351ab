// ReuseModel: how much a cached page is worth keeping, learned from what happened to others.
//
// Pages come in classes that their manager can tell apart. For each class the model counts at which
// age pages were hit, among all that reached that age: the hazard of a hit. From it follows a value
// for each age: the most hits for each unit of time that can be expected by keeping the page a
// while longer and then giving it up,
//
//   value(age) = max over t of  P(hit before age + t) / E(time until hit or t)
//
// Memory is space times time, so pages of the least value go first. This is the index of Gittins
// ("Bandit processes and dynamic allocation indices", J. Royal Statistical Society B 41, 1979);
// that hits for each unit of space and time are what to rank by, is the idea of "LHD: Improving
// Cache Hit Rate by Maximizing Hit Density" (Beckmann, Chen, Cidon, NSDI 2018).
//
// Time is counted in epochs; 64 epochs index as many pages as the pool has. A page is known by its
// class and the epoch in which it was let go. How many of them are left is counted for each class
// and epoch, so that what passes the border between two ages is one addition, and no page is
// visited.
//
// What little was seen of a class is leaned on what was seen of its family, and that on what was
// seen of all: the same course of the hazard over age, times one factor that fits its own hits.
// Until a quarter of a pool was indexed all classes are alike and value falls with age: least
// recently used order.

#ifndef QUIRE_LIB_REUSE_MODEL_H_
#define QUIRE_LIB_REUSE_MODEL_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace quire {

class ReuseModel {
 public:
  static constexpr int32_t kEpochsPerPool = 64;
  static constexpr int32_t kEpochs = 512;  // ages told apart; beyond, a page is very old
  static constexpr int32_t kMaxAges = 40;

  // Classes of a family are neighbours: [family * members, (family + 1) * members).
  ReuseModel(int32_t families, int32_t members);

  // A page is let go, is hit, or is given up for good (no later hit could be seen). O(1).
  void Enter(int32_t page_class);
  void Hit(int32_t page_class, uint16_t epoch);
  void Leave(int32_t page_class, uint16_t epoch);

  // The next epoch begins. O(classes * ages) additions, once in page_count / 64 indexed pages;
  // every sixteenth time O(classes seen * ages) to learn.
  void Tick();

  uint16_t now() const { return static_cast<uint16_t>(now_); }
  // In epochs. A page that nobody touched for 2^16 epochs, 1024 times the pool, looks young again:
  // it costs a worse victim, and a count may lose it for another page of its class.
  uint16_t Age(uint16_t epoch) const { return static_cast<uint16_t>(now_ - epoch); }
  double Value(int32_t page_class, uint16_t age) const {
    return values_[static_cast<size_t>(page_class) * ages_ + AgeOf(age)];
  }
  // The age of the oldest of the `pages` pages let go last and not hit since: what least recently
  // used order would keep is younger. O(ages of that order); kEpochs at most.
  int32_t AgeOfLast(int64_t pages) const;
  int64_t bytes() const;

 private:
  friend struct ReuseModelPeer;  // of its test

  size_t AgeOf(uint16_t age) const { return age < kEpochs ? age_of_[age] : ages_ - 1; }
  // Counts of all classes at one age are neighbours: an epoch adds them up in one go.
  size_t Index(int32_t page_class, size_t age) const {
    return age * classes_ + static_cast<size_t>(page_class);
  }
  int32_t& Left(int32_t page_class, uint16_t epoch) {
    return left_[static_cast<size_t>(epoch % kEpochs) * classes_ + static_cast<size_t>(page_class)];
  }
  // One page of that epoch less. False if none is followed: its age is kEpochs or more, or began
  // anew.
  bool TakeLeft(int32_t page_class, uint16_t epoch);
  using Ages = std::array<double, kMaxAges>;
  struct Seen {  // at each age: pages that reached it, and those of them that were hit in it
    Ages reached{};
    Ages hit{};
  };
  void AddSeen(int32_t page_class, Seen* seen) const;
  Ages Hazard(const Seen& seen, const Ages& family) const;
  void Smooth(Ages* hazard) const;
  Ages HazardOfAll() const;
  void Learn();
  void SetValues(int32_t page_class, const Ages& hazard);

  const int32_t families_;
  const int32_t members_;
  const size_t classes_;
  size_t ages_ = 0;
  std::array<int32_t, kMaxAges + 1> begin_{};  // age a is epochs [begin_[a], begin_[a + 1])
  std::vector<uint8_t> age_of_;                // [epochs]
  Ages first_hazard_{};
  std::vector<float> reached_;     // [age][class]
  std::vector<float> hit_;         // [age][class]
  std::vector<uint8_t> is_seen_;   // [class] was ever entered: the others need no values
  std::vector<uint8_t> seen_;      // those classes
  std::vector<int32_t> left_all_;  // [epoch % kEpochs] sum over classes of left_
  std::vector<int32_t> left_;      // [epoch % kEpochs][class]
  std::vector<Ages> of_family_;    // hazards as last learned: what a class begins with
  std::vector<double> values_;     // [class][age]
  uint64_t now_ = 0;
};

}  // namespace quire

#endif  // QUIRE_LIB_REUSE_MODEL_H_
