// PyTorch's scaled_dot_product_attention on the same shapes, on contiguous memory: figures to stand
// beside ours where this machine has PyTorch (bench/peers/sdpa.py).

#ifndef QUIRE_BENCH_GPU_PEERS_H_
#define QUIRE_BENCH_GPU_PEERS_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace quire::bench {

// `batch` rows of `queries` query tokens at the end of `length` keys.
struct PeerCase {
  int32_t batch;
  int32_t length;
  int32_t queries;
  int32_t group;

  std::string Name() const;  // "batch:length:queries:group", as the script takes and prints it
};

class Peers {
 public:
  // Runs the script, before this process takes the GPU's memory. Without PyTorch there are none.
  void Run(const std::vector<PeerCase>& cases);

  // Which version, or why there is none.
  const std::string& about() const { return about_; }
  // Microseconds; NaN where there is none.
  double MedianUs(const PeerCase& c) const;

 private:
  std::string about_ = "not asked for";
  std::map<std::string, double> median_us_;
};

}  // namespace quire::bench

#endif  // QUIRE_BENCH_GPU_PEERS_H_
