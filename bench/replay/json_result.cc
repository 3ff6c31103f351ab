#include "bench/replay/json_result.h"

#include <algorithm>
#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <vector>

#include "engine/json.h"

namespace replay {
namespace {

using engine::JsonWriter;

std::string Hex(uint64_t value) {
  char text[17];
  std::snprintf(text, sizeof(text), "%016" PRIx64, value);
  return text;
}

// A number exactly as it is: JsonWriter's doubles keep six digits.
void ExactField(JsonWriter* json, const char* key, double value) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.9f", value);
  json->Key(key);
  json->Raw(text);
}

// Bins up to the last that counts anything.
void LifetimesField(JsonWriter* json, const Lifetimes& lifetimes) {
  size_t end = lifetimes.bins.size();
  while (end > 0 && lifetimes.bins[end - 1] == 0) --end;
  json->Key("lifetimes");
  json->BeginArray();
  for (size_t i = 0; i < end; ++i) json->Value(lifetimes.bins[i]);
  json->EndArray();
}

void PercentilesField(JsonWriter* json, const char* key, const Percentiles& p) {
  json->Key(key);
  json->BeginObject();
  json->Field("count", p.count);
  json->Field("mean", p.mean);
  json->Field("p50", p.p50);
  json->Field("p90", p.p90);
  json->Field("p95", p.p95);
  json->Field("p99", p.p99);
  json->Field("most", p.most);
  json->EndObject();
}

void Write(JsonWriter* json, const Results& results, const SequentialResult& r) {
  json->BeginObject();
  json->Field("policy", r.policy);
  json->Field("pages", r.pages);
  json->Field("requests", r.requests);
  json->Field("page_refs", r.page_refs);
  json->Field("hit_pages", r.hit_pages);
  ExactField(json, "page_hit_rate", r.page_hit_rate());
  json->Field("hit_tokens", r.hit_tokens);
  ExactField(json, "token_hit_rate", r.token_hit_rate());
  json->Field("hits_fnv1a64", Hex(r.hits_fnv1a64));
  json->Field("evictions", r.evictions);
  ExactField(json, "seconds", r.seconds);
  json->Field("refs_per_second", static_cast<int64_t>(r.refs_per_second()));
  ExactField(json, "cpu_seconds", r.cpu_seconds);
  json->Field("input_tokens", r.input_tokens);
  ExactField(json, "recompute_saved", r.recompute_saved);
  json->Field("metadata_bytes", r.metadata_bytes);
  json->Field("ghost_bytes", r.ghost_bytes);
  json->Field("bytes_per_page", BytesPerPage(r));
  if (const BeladyResult* belady = BeladyAt(results, r.pages); belady != nullptr) {
    json->Field("belady_hit_pages", belady->hit_pages);
    ExactField(json, "belady_page_hit_rate",
               SequentialResult::Rate(belady->hit_pages, r.page_refs));
    json->Field("belady_pinned_hit_pages", belady->pinned_hit_pages);
    ExactField(json, "belady_pinned_page_hit_rate",
               SequentialResult::Rate(belady->pinned_hit_pages, r.page_refs));
  }
  LifetimesField(json, r.lifetimes);
  json->EndObject();
}

void SamplesField(JsonWriter* json, const std::vector<Sample>& samples) {
  json->Key("samples");
  json->BeginArray();
  for (const Sample& sample : samples) {
    json->BeginObject();
    json->Field("seconds", sample.seconds);
    json->Field("pages_free", sample.pages_free);
    json->Field("pages_live", sample.pages_live);
    json->Field("pages_cached", sample.pages_cached);
    json->Field("running", sample.running);
    json->Field("waiting", sample.waiting);
    json->EndObject();
  }
  json->EndArray();
}

void Write(JsonWriter* json, const ServingResult& r) {
  json->BeginObject();
  json->Field("policy", r.policy);
  json->Field("pages", r.pages);
  json->Field("requests", r.requests);
  json->Field("refused", r.refused);
  json->Field("steps", r.steps);
  ExactField(json, "seconds", r.seconds);
  json->Field("input_tokens", r.input_tokens);
  json->Field("output_tokens", r.output_tokens);
  json->Field("hit_tokens", r.hit_tokens);
  ExactField(json, "hit_rate", r.hit_rate());
  json->Field("rehit_tokens", r.rehit_tokens);
  json->Field("recomputed_tokens", r.recomputed_tokens);
  json->Field("preemptions", r.preemptions);
  json->Field("evictions", r.evictions);
  PercentilesField(json, "first_token_ms", r.first_token_ms);
  PercentilesField(json, "between_tokens_ms", r.between_tokens_ms);
  PercentilesField(json, "end_to_end_ms", r.end_to_end_ms);
  json->Field("tokens_per_second", r.tokens_per_second);
  json->Field("requests_per_second", r.requests_per_second);
  json->Field("fragmentation", r.fragmentation);
  PercentilesField(json, "manager_us", r.manager_us);
  json->Field("manager_seconds", r.manager_seconds);
  LifetimesField(json, r.lifetimes);
  SamplesField(json, r.samples);
  json->EndObject();
}

}  // namespace

double BytesPerPage(const SequentialResult& result) {
  if (result.pages == 0) return 0;
  // In sequential mode a page has one token, of four bytes.
  const int64_t tokens = static_cast<int64_t>(result.pages) * 4;
  return static_cast<double>(result.metadata_bytes - result.ghost_bytes - tokens) / result.pages;
}

const BeladyResult* BeladyAt(const Results& results, int32_t pages) {
  const auto found = std::find_if(results.belady.begin(), results.belady.end(),
                                  [&](const BeladyResult& b) { return b.pages == pages; });
  return found == results.belady.end() ? nullptr : &*found;
}

std::string JsonOf(const Results& results) {
  JsonWriter json;
  json.BeginObject();
  json.Field("command", results.command);
  json.Field("trace", results.trace);
  json.Field("requests", results.requests);
  json.Field("page_refs", results.page_refs);
  json.Field("distinct_pages", results.distinct_pages);
  json.Field("tokens_per_page", results.tokens_per_page);
  json.Field("skipped_lines", results.skipped_lines);
  json.Field("read_seconds", results.read_seconds);
  json.Field("unlimited_hit_pages", results.unlimited_hit_pages);
  ExactField(&json, "unlimited_page_hit_rate",
             SequentialResult::Rate(results.unlimited_hit_pages, results.page_refs));
  json.Field("cost_model", results.cost_model);
  json.Key("sequential");
  json.BeginArray();
  for (const SequentialResult& result : results.sequential) Write(&json, results, result);
  json.EndArray();
  json.Key("serving");
  json.BeginArray();
  for (const ServingResult& result : results.serving) Write(&json, result);
  json.EndArray();
  json.EndObject();
  return json.text();
}

}  // namespace replay
