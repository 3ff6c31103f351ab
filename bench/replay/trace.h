// Trace: what a day of requests looks like to a cache. Every format is brought to one: pages named
// by chained ids.
//
// A page id stands for a page's tokens AND everything before it: two requests have the same id at
// the same place exactly if they agree in all tokens up to the end of that page. So an id has one
// parent and one depth, and the tokens themselves are no longer needed: a replay gives each token
// of a page the page's id.

#ifndef QUIRE_BENCH_REPLAY_TRACE_H_
#define QUIRE_BENCH_REPLAY_TRACE_H_

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace replay {

// One request. Its page ids lie in Trace::ids: first the prompt's, then the answer's.
struct Request {
  int64_t arrival_ms = 0;
  int32_t input_tokens = 0;   // >= 1
  int32_t output_tokens = 0;  // >= 0
  int64_t first_id = 0;       // index into Trace::ids
  // ceil(input_tokens / tokens_per_page): the last page is usually partly filled, and its id stands
  // for just the tokens it has.
  int32_t input_pages = 0;
  // Pages from floor(input_tokens / tokens_per_page) to ceil((input + output) / tokens_per_page):
  // the page that prompt and answer share, then the answer's own, as they are when the answer is
  // complete. 0 where output_tokens is 0.
  int32_t output_pages = 0;
  int32_t previous = -1;  // the request of which this is the next turn; -1: a first turn
  int32_t tenant = 0;     // index into Trace::tenants
};

struct Trace {
  std::string name;  // the file's name without folders, or "generated chat" and so on
  int32_t tokens_per_page = 512;
  std::vector<Request> requests;  // in order of the file and of arrival
  std::vector<int32_t> ids;       // >= 0, dense: below id_count
  int32_t id_count = 0;
  std::vector<std::string> tenants;  // at least one; "" where the trace names none
  int64_t skipped_lines = 0;         // malformed, with skip_bad

  std::span<const int32_t> Prompt(const Request& r) const {
    return std::span(ids).subspan(static_cast<size_t>(r.first_id),
                                  static_cast<size_t>(r.input_pages));
  }
  std::span<const int32_t> Answer(const Request& r) const {
    return std::span(ids).subspan(static_cast<size_t>(r.first_id + r.input_pages),
                                  static_cast<size_t>(r.output_pages));
  }
  int64_t page_refs() const;       // sum of input_pages
  int64_t distinct_pages() const;  // ids in prompts, each counted once
};

enum class Format : uint8_t { kMooncake, kTokens };

struct ReadOptions {
  Format format = Format::kMooncake;
  // kTokens: how its tokens are cut into pages, [1, 4096]. A Mooncake trace has pages of 512 and no
  // other.
  int32_t tokens_per_page = 16;
  bool skip_bad = false;  // count a malformed line and go on, rather than stop
};

// Reads a trace, one JSON object a line (blank lines are allowed, unknown fields ignored):
//
//   kMooncake  {"timestamp": ms, "input_length": tokens, "output_length": tokens,
//               "hash_ids": [id of each page of 512 tokens]}
//              hash_ids has ceil(input_length / 512) entries, each any unsigned 64-bit integer; an
//              id has one parent everywhere.
//   kTokens    {"timestamp": ms, "tokens": [ids] or "text": "...", "output_tokens": [ids] or
//               "output_text": "..." or "output_length": n, "session": "...", "tenant": "..."}
//              All but the prompt may be absent or null: 0 ms, no answer, no session, no tenant. A
//              token is any int32. Each byte of a text is one token: so texts agree in tokens as
//              far as they agree, also where a prompt takes up the answer before it, which pieces
//              that merge across that seam would spoil. Bytes are several times as many as a
//              model's tokens; a trace that is to be true in numbers brings tokens.
//
// Lines must come in order of their timestamps: sequential mode goes by the file and serving mode
// by the clock, and on an unsorted file they would replay different traces. A prompt and an answer
// have at most 2^24 tokens each.
//
// Request::previous. Where a line names a session, the line before it of the same session and
// tenant. Otherwise it is inferred, from pages: a request ends in its last full page whose tokens
// are known (of the prompt; of prompt and answer where the answer's tokens are given), and goes on
// from the earlier request of its tenant that
//   - ends in a page of its own: one that no request before had, or that it has from its own
//     `previous`, being too short to fill another. Without this rule every request would go on
//     from the latest whose own text was short, because all share the system prompt;
//   - ends in a page that stands in this prompt, but not as its last;
//   - has at most as many tokens, prompt and answer, as this prompt;
// and if several do, from the one whose page is deepest.
//
// The answer's pages, where its tokens are not given. They are taken from the first later request
// whose `previous` this is and whose prompt begins with this one's full pages, of which there must
// be one, and is long enough to hold the answer too; as far as full pages reach,
// floor((input + output) / tokens_per_page). All others get ids of their own.
//
// kNotFound: no such file. kInvalidArgument: "FILE:LINE: what is wrong, expected what"; the first
// line that is bad stops the reading unless skip_bad, and then nothing of it is in the trace. A
// file without a good line, or of more than 2^31 - 1 pages of prompts and answers, is an error
// always.
absl::StatusOr<Trace> ReadTrace(const std::string& path, const ReadOptions& options);

// The same, of text in memory; `name` stands for the file's in messages.
absl::StatusOr<Trace> ParseTrace(std::string_view text, const std::string& name,
                                 const ReadOptions& options);

}  // namespace replay

#endif  // QUIRE_BENCH_REPLAY_TRACE_H_
