// The report's style sheet. Colours come in pairs, for light and for dark; each has a contrast of
// at least 3 to 1 against its background (text: 4.5), and the eight of policies differ in lightness
// as well as in hue.

#include <algorithm>
#include <cstddef>
#include <string>

#include "absl/strings/str_cat.h"
#include "bench/replay/report_parts.h"

namespace replay {
namespace {

constexpr char kColourPairs[] = R"(
:root {
  color-scheme: light dark;
  --back: #fcfcfa; --raised: #ffffff; --ink: #1d2024; --quiet: #5a6068; --line: #d9dbd8;
  --grid: #e6e7e4; --link: #0062a3; --live: #14304b; --cached: #5685b0; --free: #e3e8ec;
  --shade: #00000026;
  --c0: #0068ad; --c1: #c24a00; --c2: #007d58; --c3: #a83f86; --c4: #8a6400; --c5: #6550c8;
  --c6: #4c5560; --c7: #a3232f;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --back: #15171a; --raised: #1f2226; --ink: #e8e8e4; --quiet: #a6acb3; --line: #383c42;
    --grid: #2a2d32; --link: #7cc0f5; --live: #d5e6f5; --cached: #5384ac; --free: #262b31;
    --shade: #000000b0;
    --c0: #5fb4f2; --c1: #ff9152; --c2: #3ecb9c; --c3: #ee90c6; --c4: #e3b341; --c5: #b3a2ff;
    --c6: #b4bcc6; --c7: #ff7b85;
  }
}
)";

constexpr char kPage[] = R"(
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0 auto; padding: 32px 16px 64px; max-width: 1100px;
  background: var(--back); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
}
h1, h2, h3, p, ul, dl, figure { margin: 0; }
h1 { font-size: 28px; line-height: 1.2; font-weight: 650; overflow-wrap: anywhere; }
h2 { font-size: 21px; line-height: 1.3; font-weight: 650; }
h3 { font-size: 16px; font-weight: 650; margin-top: 40px; }
section { margin-top: 48px; padding-top: 28px; border-top: 1px solid var(--line); }
code { font: 13px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
.kind { color: var(--quiet); font-size: 14px; margin-bottom: 4px; }
.note, .model { color: var(--quiet); font-size: 14px; max-width: 76ch; margin-top: 6px; }
.scroll + .note { margin-top: 12px; }
.model { overflow-wrap: anywhere; }
.facts { display: flex; flex-wrap: wrap; gap: 12px 32px; margin-top: 20px; }
.facts dt { color: var(--quiet); font-size: 13px; }
.facts dd { margin: 0; font-size: 18px; font-variant-numeric: tabular-nums; }
.command { margin-top: 20px; }
.command code { overflow-wrap: anywhere; color: var(--quiet); }
.findings { margin-top: 20px; padding: 0; list-style: none; max-width: 76ch; }
.findings li { padding: 8px 0 8px 16px; border-left: 3px solid var(--c0); }
.legend {
  display: flex; flex-wrap: wrap; gap: 4px 20px; margin-top: 20px; padding: 0; list-style: none;
  font-size: 14px;
}
.legend li { display: flex; align-items: center; gap: 8px; padding: 3px 0; cursor: default; }
.legend svg { flex: none; }
.swatch { width: 34px; height: 14px; }
.dot { width: 14px; height: 14px; }
.key { width: 18px; height: 12px; border-radius: 2px; }
.key.live { background: var(--live); }
.key.cached { background: var(--cached); }
.key.free { background: var(--free); border: 1px solid var(--quiet); }
.key.running, .key.waiting { height: 0; border-radius: 0; border-top: 2px solid var(--ink); }
.key.waiting { border-top: 2px dashed var(--c1); }
figure { margin-top: 24px; min-width: 0; }
figcaption { font-size: 14px; line-height: 1.4; }
figcaption b { font-weight: 600; }
figcaption span { color: var(--quiet); font-size: 13px; margin-left: 6px; }
.multiples figcaption span { display: block; margin: 0; }
figure svg { display: block; width: 100%; height: auto; margin-top: 8px; }
.narrow { display: none; max-width: 480px; }
.multiples { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 300px), 1fr));
  gap: 0 32px; }
.pair { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 440px), 1fr));
  gap: 0 32px; }
.pair figure { max-width: 560px; }
/* A shade at the side where there is more: it lies under a cover that scrolls away with the
   text. */
.scroll {
  overflow-x: auto; margin-top: 12px;
  background:
    linear-gradient(to right, var(--back) 30%, transparent) left / 40px 100% no-repeat local,
    linear-gradient(to left, var(--back) 30%, transparent) right / 40px 100% no-repeat local,
    linear-gradient(to right, var(--shade), transparent) left / 14px 100% no-repeat scroll,
    linear-gradient(to left, var(--shade), transparent) right / 14px 100% no-repeat scroll;
}
.scroll:focus-visible, summary:focus-visible {
  outline: 2px solid var(--link); outline-offset: 2px;
}
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; }
th, td { padding: 5px 9px; text-align: right; white-space: nowrap; font-weight: 400; }
thead th { color: var(--quiet); font-size: 12px; border-bottom: 1px solid var(--line); }
th:first-child {
  position: sticky; left: 0; background: var(--back); text-align: left; padding-left: 0;
}
td b { font-weight: 700; }
td code { font-size: 12px; }
tbody tr.first:not(:first-child) > * { border-top: 1px solid var(--line); }
details { margin-top: 16px; font-size: 14px; }
summary { color: var(--quiet); cursor: pointer; padding: 4px 0; }
.picker { border: 0; margin: 20px 0 0; padding: 0; min-width: 0; position: relative; }
.picker > legend { padding: 0; margin-bottom: 6px; color: var(--quiet); font-size: 13px; }
.picker > input { position: absolute; opacity: 0; width: 1px; height: 1px; }
.picker > label {
  display: inline-block; margin: 0 6px 6px 0; padding: 5px 12px; border: 1px solid var(--line);
  border-radius: 999px; font-size: 14px; cursor: pointer;
}
.picker > input:checked + label {
  background: var(--ink); border-color: var(--ink); color: var(--back);
}
.picker > input:focus-visible + label { outline: 2px solid var(--link); outline-offset: 2px; }
.panel .on-paper { display: none; }
)";

constexpr char kCharts[] = R"(
svg text { font-size: 12px; fill: var(--ink); }
svg .tick, svg .title { fill: var(--quiet); font-size: 11px; font-variant-numeric: tabular-nums; }
svg .value { fill: var(--quiet); font-variant-numeric: tabular-nums; }
svg .strong { font-weight: 600; }
svg .level-name { fill: var(--quiet); font-size: 11px; }
.grid { stroke: var(--grid); stroke-width: 1; }
.axis { stroke: var(--quiet); stroke-width: 1; }
.level { stroke: var(--quiet); stroke-width: 1.5; stroke-dasharray: 2 4; }
.series { fill: none; stroke: var(--c); stroke-width: 2; stroke-linejoin: round; }
.mark { fill: var(--c); stroke: var(--back); stroke-width: 1; }
.bar { fill: var(--c); }
.range { stroke: var(--c); stroke-width: 2; }
.catch { fill: transparent; }
.bound { --c: var(--ink); }
.d1 { stroke-dasharray: 8 3; }
.d2 { stroke-dasharray: 3 3; }
.d3 { stroke-dasharray: 10 3 2 3; }
.d4 { stroke-dasharray: 14 4; }
.d5 { stroke-dasharray: 8 3 2 3 2 3; }
.d6 { stroke-dasharray: 5 2; }
.d7 { stroke-dasharray: 2 2 6 2; }
.d9 { stroke-width: 1.5; stroke-dasharray: 1 3; stroke-linecap: round; }
path.live { fill: var(--live); }
path.cached { fill: var(--cached); }
path.free { fill: var(--free); }
.running, .waiting { fill: none; stroke: var(--ink); stroke-width: 1.5; }
.waiting { stroke: var(--c1); stroke-dasharray: 4 2; }
.tip { visibility: hidden; pointer-events: none; }
.stop:hover .tip { visibility: visible; }
.tip .cross { stroke: var(--quiet); stroke-width: 1; }
.tip .box { fill: var(--raised); stroke: var(--line); rx: 4px; }
.policy { transition: opacity 0.12s; }
@media (prefers-reduced-motion: reduce) { .policy { transition: none; } }
@media (max-width: 759px) {
  body { padding-top: 20px; }
  h1 { font-size: 23px; }
  .wide { display: none; }
  .narrow { display: block; }
  .facts { display: grid; grid-template-columns: 1fr 1fr; gap: 12px 16px; }
}
@media (min-width: 1280px) { body { padding-top: 56px; } }
@media print {
  body { max-width: none; padding: 0; font-size: 11pt; }
  figure, tr { break-inside: avoid; }
  h2, h3, .on-paper, .note, .legend { break-after: avoid; }
  .scroll { overflow: visible; background: none; }
  table { font-size: 6pt; }
  th, td { padding: 1px 3px; }
  thead th { font-size: 6pt; white-space: normal; vertical-align: bottom; }
  .picker > label, .picker > legend { display: none; }
  .wide { display: block; }
  .narrow { display: none; }
  td code { font-size: inherit; }
  .panel .on-paper { display: block; font-weight: 600; margin-top: 16px; }
}
)";

}  // namespace

std::string StyleSheet(size_t policies) {
  std::string out = absl::StrCat(kColourPairs, kPage);
  for (int i = 0; i < 8; ++i) absl::StrAppend(&out, ".c", i, " { --c: var(--c", i, "); }\n");
  // The k-th button shows the k-th panel.
  for (size_t k = 1; k <= kMaxPanels; ++k) {
    absl::StrAppend(&out, ".picker > input:nth-of-type(", k,
                    "):not(:checked) ~ .panel:nth-of-type(", k, ") { display: none; }\n");
  }
  out += kCharts;
  // A policy pointed at in the legend stands out: the others fade.
  for (size_t p = 0; p < policies; ++p) {
    absl::StrAppend(&out, "section:has(.k", p, ":hover) .policy:not(.s", p,
                    ") { opacity: 0.15; }\n");
  }
  return out;
}

}  // namespace replay
