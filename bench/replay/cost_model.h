// What a step of a serving engine costs, in simulated time: a formula with four numbers, so that
// anyone can put those of his machine in.
//
//   step = fixed + prefill * sum over new prompt tokens t of (1 + t / context)
//                + decode * decoding sequences + read * tokens of K/V that those read
//
// (t is the token's position: attention over the prefix grows with it, the rest of a layer does
// not; `context` is the position where both cost the same.) Source of the form: the arithmetic of a
// decoder layer, 2 * parameters flops a token and 4 * layers * hidden * t flops of attention. The
// defaults are those of an 8-billion-parameter model (32 layers, hidden 4096: context
// 2 * 8.0e9 / (4 * 32 * 4096) = 30518) at an assumed 400 TFLOP/s and 3 TB/s: assumed, not measured.

#ifndef QUIRE_BENCH_REPLAY_COST_MODEL_H_
#define QUIRE_BENCH_REPLAY_COST_MODEL_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"

namespace replay {

struct CostModel {
  double fixed_ms = 6;           // reading the weights, launching
  double prefill_us = 40;        // a prompt token at position 0: 16 GFLOP / 400 TFLOP/s
  double context = 30518;        // position where attention doubles that
  double decode_us = 4;          // a sequence that computes the token it generated last
  double read_us_per_ktok = 44;  // 1000 tokens of K/V read: 131 kB each at 3 TB/s

  // Cost of computing tokens [begin, end) of one prompt, microseconds.
  double PrefillUs(int64_t begin, int64_t end) const {
    const auto b = static_cast<double>(begin);
    const auto e = static_cast<double>(end);
    return prefill_us * ((e - b) + (e * (e - 1) - b * (b - 1)) / (2 * context));
  }

  // Cost of a step, microseconds, whose prompt tokens cost `prompts_us` (sums of PrefillUs).
  double StepUs(double prompts_us, int64_t decodes, int64_t read_tokens) const {
    return fixed_ms * 1000 + prompts_us + decode_us * static_cast<double>(decodes) +
           read_us_per_ktok * static_cast<double>(read_tokens) / 1000;
  }
};

// kInvalidArgument names the value that is out of range: all are finite and >= 0, and `context` is
// > 0; infinity turns the growth with the position off.
absl::Status CheckCostModel(const CostModel& cost);

// The formula with its numbers, one line: for results, so that no figure stands without it.
std::string Describe(const CostModel& cost);

}  // namespace replay

#endif  // QUIRE_BENCH_REPLAY_COST_MODEL_H_
