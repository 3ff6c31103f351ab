#include "bench/replay/report.h"

#include <cstddef>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "bench/replay/report_parts.h"
#include "bench/replay/report_text.h"

namespace replay {
namespace {

std::string Fact(std::string_view name, std::string_view value) {
  return absl::StrCat("<div><dt>", Escape(name), "</dt><dd>", Escape(value), "</dd></div>\n");
}

std::string Header(const Results& results, const Policies& policies) {
  std::string out = absl::StrCat("<header>\n<p class=\"kind\">Quire replay</p>\n<h1>",
                                 Escape(results.trace), "</h1>\n<dl class=\"facts\">\n");
  out += Fact("Requests", Count(results.requests));
  out += Fact("Page references", Count(results.page_refs));
  out += Fact("Distinct pages", Count(results.distinct_pages));
  if (results.tokens_per_page > 0) out += Fact("Tokens a page", Count(results.tokens_per_page));
  if (results.skipped_lines > 0) out += Fact("Lines skipped", Count(results.skipped_lines));
  if (results.read_seconds > 0) out += Fact("Read in", Milliseconds(results.read_seconds * 1e3));
  if (!policies.names.empty()) {
    out += Fact("Policies", Count(static_cast<int64_t>(policies.names.size())));
  }
  out += "</dl>\n";
  if (!results.command.empty()) {
    absl::StrAppend(&out, "<p class=\"command\"><code>", Escape(results.command), "</code></p>\n");
  }
  std::vector<std::string> findings = SequentialFindings(results);
  for (std::string& one : ServingFindings(results)) findings.push_back(std::move(one));
  if (!findings.empty()) {
    out += "<ul class=\"findings\">\n";
    for (const std::string& one : findings) absl::StrAppend(&out, "<li>", one, "</li>\n");
    out += "</ul>\n";
  }
  return out + "</header>\n";
}

}  // namespace

std::string HtmlReport(const Results& results) {
  const Policies policies(results);
  std::string out =
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n"
      "<meta name=\"color-scheme\" content=\"light dark\"/>\n"
      // Whatever a later change puts in: the browser fetches nothing and runs nothing.
      "<meta http-equiv=\"Content-Security-Policy\" "
      "content=\"default-src &#39;none&#39;; style-src &#39;unsafe-inline&#39;\"/>\n";
  absl::StrAppend(&out, "<title>", Escape(results.trace), " – Quire replay</title>\n<style>\n",
                  StyleSheet(policies.names.size()), "</style>\n</head>\n<body>\n",
                  Header(results, policies), "<main>\n", SequentialSection(results, policies),
                  ServingSection(results, policies));
  if (results.sequential.empty() && results.serving.empty()) {
    out += Paragraph("note", "This run has no results.");
  }
  return out + "</main>\n</body>\n</html>\n";
}

}  // namespace replay
