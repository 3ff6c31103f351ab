#include "bench/replay/generate.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <map>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "bench/replay/page_ids.h"
#include "bench/replay/page_stream.h"
#include "bench/replay/random.h"

namespace replay {
namespace {

constexpr int64_t kMaxPageRefs = 100000000;
constexpr int32_t kMaxContext = 131072;  // tokens; a session ends before it grows past that

struct TrafficName {
  const char* name;
  Traffic traffic;
};
constexpr std::array<TrafficName, 4> kTraffics = {{{"chat", Traffic::kChat},
                                                   {"agent", Traffic::kAgent},
                                                   {"rag", Traffic::kRag},
                                                   {"sampling", Traffic::kSampling}}};

// What tells one traffic from another. Tokens and milliseconds; generate.h says where the numbers
// are from.
struct Shape {
  int32_t shared = 0;         // prompts that sessions begin with, Zipf
  HeavyTail shared_tokens{};  // of each of them
  HeavyTail first{};          // what the first turn adds
  HeavyTail later{};          // what a later turn adds
  HeavyTail answer{};
  HeavyTail pause_ms{};               // from one turn's arrival to the next one's
  int64_t go_on = 0, go_on_of = 1;    // chance of another turn
  int64_t branch = 0, branch_of = 1;  // chance that it goes on from an earlier turn instead
  int64_t thousand_requests_a_session = 1000;  // on average
};

Shape ShapeOf(Traffic traffic) {
  switch (traffic) {
    case Traffic::kChat:
      return {.shared = 4,
              .shared_tokens = {800, 4, 100, 4000},
              .first = {5950, 8, 8, 100000},
              .later = {43, 16, 1, 20000},
              .answer = {350, 4, 1, 4096},
              .pause_ms = {138000, 6, 2000, 3600000},
              .go_on = 2,
              .go_on_of = 3,
              .thousand_requests_a_session = 3000};
    case Traffic::kAgent:
      return {.shared = 6,
              .shared_tokens = {13000, 2, 1400, 25000},
              .first = {300, 6, 10, 8000},
              .later = {400, 10, 1, 20000},
              .answer = {69, 9, 1, 4096},
              .pause_ms = {6000, 4, 500, 120000},
              .go_on = 23,
              .go_on_of = 24,
              .branch = 1,
              .branch_of = 16,
              .thousand_requests_a_session = 24000};
    case Traffic::kRag:
      return {.shared = 1,
              .shared_tokens = {800, 0, 800, 800},
              .first = {40, 4, 4, 1000},
              .later = {40, 4, 4, 1000},
              .answer = {200, 4, 1, 2048},
              .pause_ms = {45000, 4, 2000, 600000},
              .go_on = 1,
              .go_on_of = 4,
              .thousand_requests_a_session = 1333};
    case Traffic::kSampling:
      return {.shared = 3,
              .shared_tokens = {1500, 4, 200, 6000},
              .first = {200, 4, 10, 4000},
              .later = {100, 4, 1, 4000},
              .answer = {1000, 4, 16, 8192},
              .pause_ms = {10000, 4, 1000, 120000},
              .go_on = 1,
              .go_on_of = 8,
              .thousand_requests_a_session = 17143};  // 15 samples, 8 / 7 turns each
  }
  return {};
}

constexpr int64_t kDocuments = 20000;
constexpr HeavyTail kDocumentTokens{1500, 4, 50, 20000};

struct Session {
  PageStream stream;
  // After each turn: its request, and the parts of the stream then.
  std::vector<std::pair<int32_t, size_t>> turns{};
};

class Generator {
 public:
  explicit Generator(const GenerateOptions& options)
      : options_(options),
        shape_(ShapeOf(options.traffic)),
        random_(options.seed),
        prompts_(shape_.shared),
        documents_(options.traffic == Traffic::kRag ? kDocuments : 1) {
    for (int32_t i = 0; i < shape_.shared; ++i) {
      shared_tokens_.push_back(static_cast<int32_t>(random_.Draw(shape_.shared_tokens)));
    }
    if (options.traffic == Traffic::kRag) {
      for (int64_t i = 0; i < kDocuments; ++i) {
        document_tokens_.push_back(static_cast<int32_t>(random_.Draw(kDocumentTokens)));
      }
    }
    contents_ = shape_.shared + static_cast<int32_t>(document_tokens_.size());
    session_gap_us_ =
        static_cast<int64_t>(1000.0 * static_cast<double>(shape_.thousand_requests_a_session) /
                             options.requests_per_second);
    trace_.tokens_per_page = options.tokens_per_page;
    trace_.tenants = {""};
    for (const TrafficName& t : kTraffics) {
      if (t.traffic == options.traffic) trace_.name = absl::StrCat("generated ", t.name);
    }
  }

  Trace Run() && {
    int64_t next_session_us = 0;
    while (!Enough()) {
      if (waiting_.empty() || next_session_us <= waiting_.begin()->first.first) {
        Start(next_session_us);
        next_session_us += random_.Exponential(session_gap_us_);
      } else {
        auto turn = waiting_.extract(waiting_.begin());
        GoOn(turn.key().first, std::move(turn.mapped()));
      }
    }
    trace_.id_count = ids_.count();
    return std::move(trace_);
  }

 private:
  bool Enough() const { return refs_ >= options_.page_refs; }

  void AppendNew(int64_t tokens, PageStream* stream) {
    stream->Append(contents_++, static_cast<int32_t>(tokens));
  }

  void Start(int64_t time_us) {
    Session session{PageStream(options_.tokens_per_page, &ids_)};
    const auto prompt = static_cast<int32_t>(prompts_.Draw(&random_));
    session.stream.Append(prompt, shared_tokens_[static_cast<size_t>(prompt)]);
    if (options_.traffic == Traffic::kRag) AppendDocuments(&session.stream);
    AppendNew(random_.Draw(shape_.first), &session.stream);
    int64_t samples = 1;
    if (options_.traffic == Traffic::kSampling) samples = int64_t{4} << random_.Below(4);
    for (int64_t i = 0; i < samples && !Enough(); ++i) Ask(time_us, session);
  }

  // Three to eight different ones, the most relevant first, which is not the most popular.
  void AppendDocuments(PageStream* stream) {
    std::vector<int64_t> chosen(static_cast<size_t>(3 + random_.Below(6)), -1);
    for (int64_t& document : chosen) {
      int64_t drawn = documents_.Draw(&random_);
      while (std::find(chosen.begin(), chosen.end(), drawn) != chosen.end()) {
        drawn = documents_.Draw(&random_);
      }
      document = drawn;
      stream->Append(shape_.shared + static_cast<int32_t>(drawn),
                     document_tokens_[static_cast<size_t>(drawn)]);
    }
  }

  // The next turn of a session that waited for it. Only here does the stream grow: pages get ids
  // when a request has them, so a session that still waits at the end leaves none unused.
  void GoOn(int64_t time_us, Session session) {
    if (random_.Chance(shape_.branch, shape_.branch_of)) {
      const auto turn =
          static_cast<size_t>(random_.Below(static_cast<int64_t>(session.turns.size())));
      session.turns.resize(turn + 1);
      session.stream.Truncate(session.turns.back().second);
    }
    const int64_t tokens = random_.Draw(shape_.later);
    if (session.stream.tokens() + tokens > kMaxContext) return;
    AppendNew(tokens, &session.stream);
    Ask(time_us, std::move(session));
  }

  // The stream as a request, and its answer; then the session may wait for another turn.
  void Ask(int64_t time_us, Session session) {
    Request r;
    r.arrival_ms = time_us / 1000;
    if (!session.turns.empty()) r.previous = session.turns.back().first;
    r.input_tokens = session.stream.tokens();
    r.first_id = static_cast<int64_t>(trace_.ids.size());
    session.stream.WritePages(0, &trace_.ids);
    r.input_pages = static_cast<int32_t>(static_cast<int64_t>(trace_.ids.size()) - r.first_id);

    AppendNew(random_.Draw(shape_.answer), &session.stream);
    r.output_tokens = session.stream.tokens() - r.input_tokens;
    const size_t answer = trace_.ids.size();
    session.stream.WritePages(r.input_tokens / options_.tokens_per_page, &trace_.ids);
    r.output_pages = static_cast<int32_t>(trace_.ids.size() - answer);

    refs_ += r.input_pages;
    session.turns.emplace_back(static_cast<int32_t>(trace_.requests.size()),
                               session.stream.parts());
    trace_.requests.push_back(r);
    if (!random_.Chance(shape_.go_on, shape_.go_on_of)) return;
    // Sessions that wait for the same moment go on in the order they came.
    const int64_t next_us = time_us + 1000 * random_.Draw(shape_.pause_ms);
    waiting_.emplace(std::pair(next_us, order_++), std::move(session));
  }

  GenerateOptions options_;
  Shape shape_;
  Random random_;
  Zipf prompts_, documents_;
  std::vector<int32_t> shared_tokens_, document_tokens_;
  int32_t contents_ = 0;  // the shared prompts', then the documents', then everyone's own
  int64_t session_gap_us_ = 0;
  PageIds ids_;
  Trace trace_;
  std::map<std::pair<int64_t, int64_t>, Session> waiting_;  // by time and order
  int64_t order_ = 0;
  int64_t refs_ = 0;
};

}  // namespace

absl::StatusOr<Trace> Generate(const GenerateOptions& options) {
  if (options.page_refs < 1 || options.page_refs > kMaxPageRefs) {
    return absl::InvalidArgumentError(
        absl::StrCat("page_refs is ", options.page_refs, ", must be 1 to ", kMaxPageRefs));
  }
  if (options.tokens_per_page < 1 || options.tokens_per_page > 4096) {
    return absl::InvalidArgumentError(
        absl::StrCat("tokens_per_page is ", options.tokens_per_page, ", must be 1 to 4096"));
  }
  // Written so that what is not a number fails too.
  if (!(options.requests_per_second >= 0.001 && options.requests_per_second <= 100000)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "requests_per_second is ", options.requests_per_second, ", must be 0.001 to 100000"));
  }
  return Generator(options).Run();
}

absl::StatusOr<Traffic> ParseTraffic(const std::string& name) {
  for (const TrafficName& t : kTraffics) {
    if (name == t.name) return t.traffic;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("traffic is \"", name, "\", must be chat, agent, rag or sampling"));
}

}  // namespace replay
