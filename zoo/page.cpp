#include "zoo/page.hpp"

#include <fstream>
#include <iterator>
#include <system_error>

#include <fmt/format.h>

#include <armagrad/autodiff/error.hpp>

namespace armagrad::zoo {
namespace {

// The page knows itself by this when it is read again.
std::string generator(const std::string& title) {
  return fmt::format(R"(<meta name="generator" content="{}">)", escape(title));
}
constexpr std::string_view begin_mark = "\n<!--section ", end_mark = "\n<!--/section-->";

constexpr auto style = R"css(
:root {
  color-scheme: light dark;
  --paper: #fdfdfb; --ink: #1d2024; --muted: #5d646e; --rule: #d8dbdf; --grid: #e6e8eb; --tint: #f3f4f3;
  --accent: #1f5c99; --good: #1c7444; --bad: #b3281e;
  --c1: #1f5c99; --c2: #c4511a; --c3: #2a7d56; --c4: #84489f; --c5: #9a7400; --c6: #0c7c8a; --c7: #b1386a; --c8: #66717f;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #15181b; --ink: #e4e6e8; --muted: #9ba3ad; --rule: #363b42; --grid: #2a2f35; --tint: #1d2125;
    --accent: #79b2ea; --good: #63c48e; --bad: #f08a80;
    --c1: #6facec; --c2: #f0935c; --c3: #63bf90; --c4: #c393dc; --c5: #d6b045; --c6: #53bfcc; --c7: #ec86ac; --c8: #9fa9b6;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-behavior: smooth; }
body {
  margin: 0; padding: 2.5rem 1.25rem 4rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif;
}
header > *, section > * { max-width: 46rem; margin-left: auto !important; margin-right: auto !important; }
h1, h2, h3 { line-height: 1.2; font-weight: 650; letter-spacing: -0.01em; text-wrap: balance; }
h1 { margin: 0 0 .5rem; font-size: 2rem; }
h2 { margin: 0 0 1rem; font-size: 1.55rem; }
h3 { margin: 2.75rem 0 .6rem; font-size: 1.15rem; }
p { margin: 0 0 1rem; text-wrap: pretty; overflow-wrap: break-word; }
.remarks { margin: 0 auto 1rem; padding-left: 1.2rem; }
.remarks li { margin-bottom: .35rem; overflow-wrap: break-word; }
a { color: var(--accent); text-underline-offset: .15em; }
.lead { color: var(--muted); }
nav ul { display: flex; flex-wrap: wrap; gap: .25rem 1.5rem; margin: 1rem 0 0; padding: 0; list-style: none; }
section { margin-top: 3.5rem; }
h2 { padding-top: 2rem; border-top: 1px solid var(--rule); }
dl.facts { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; margin: 0 0 1.5rem; font-size: .875rem; }
dl.facts dt { color: var(--muted); }
dl.facts dd { margin: 0; overflow-wrap: anywhere; }
.scroll { margin: 1.25rem 0 1.75rem; overflow-x: auto; }
section > .wide { width: max-content; min-width: min(100%, 46rem); max-width: min(100%, 72rem); }
table { width: 100%; border-collapse: separate; border-spacing: 0; font-size: .9rem; line-height: 1.4; font-variant-numeric: tabular-nums; }
caption { padding-bottom: .4rem; color: var(--muted); text-align: left; }
th, td { padding: .45rem 0 .45rem 1.1rem; text-align: right; vertical-align: baseline; white-space: nowrap; }
th:first-child, td:first-child { padding-left: 0; text-align: left; }
.text { text-align: left; }
thead th { color: var(--muted); font-weight: 500; font-size: .8125rem; vertical-align: bottom; }
thead tr:last-child > * { border-bottom: 1px solid var(--ink); }
thead th.group { text-align: center; }
thead th.group span { display: block; padding-bottom: .15rem; border-bottom: 1px solid var(--rule); }
tbody tr + tr > * { border-top: 1px solid var(--rule); }
tbody th { font-weight: 400; background: var(--paper); }
.wide tbody th, .wide thead th:first-child { position: sticky; left: 0; background: var(--paper); }
.compare th:first-child { white-space: normal; }
th small, td small { display: block; color: var(--muted); font-size: .8125rem; font-weight: 400; }
td.here { font-weight: 650; }
td.none { color: var(--muted); }
.unit { color: var(--muted); font-weight: 400; }
pre {
  margin: 1rem 0 1.5rem; padding: .8rem 1rem; overflow-x: auto; background: var(--tint); border-radius: 4px;
  font: .84rem/1.5 ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace;
}
figure { margin: 1.5rem 0 2rem; }
figure svg { display: block; width: 100%; height: auto; color: var(--ink); font-family: inherit; }
figcaption { margin-top: .5rem; color: var(--muted); font-size: .875rem; line-height: 1.45; text-wrap: pretty; }
.on-phone { display: none !important; }
.legend { display: flex; flex-wrap: wrap; gap: .1rem 1.25rem; margin: 0 0 .6rem; padding: 0; list-style: none; font-size: .875rem; }
.legend svg { display: inline-block; width: 1.6rem; height: .7rem; margin-right: .45rem; }
.gallery { display: grid; grid-template-columns: repeat(auto-fill, minmax(3.6rem, 1fr)); gap: .9rem .75rem;
  max-width: calc(var(--columns) * 6.5rem); }
.tile { font-size: .875rem; line-height: 1.3; text-align: center; font-variant-numeric: tabular-nums; }
.tile svg { margin-bottom: .25rem; background: var(--tint); }
.tile small { display: block; color: var(--muted); font-size: .78rem; }
.matrix { max-width: 28rem; }
.good { color: var(--good); } .bad { color: var(--bad); }
.left-out { padding: .8rem 1rem; border-left: 3px solid var(--bad); background: var(--tint); }
@media (max-width: 600px) {
  body { padding: 1.5rem 1rem 3rem; }
  h1 { font-size: 1.6rem; } h2 { font-size: 1.35rem; }
  table { font-size: .8125rem; }
  th, td { padding-left: .8rem; }
  .compare tr { display: grid; grid-template-columns: repeat(var(--numbers), 1fr); gap: 0 .5rem; padding: .35rem 0; }
  .compare tr > * { padding: .1rem 0; border: 0 !important; }
  .compare thead tr { padding: 0 0 .2rem; border-bottom: 1px solid var(--ink); }
  .compare thead td { display: none; }
  .compare tbody th { grid-column: 1 / -1; }
  .compare tbody tr + tr { border-top: 1px solid var(--rule); }
  pre { font-size: .75rem; }
  .on-page { display: none !important; } .on-phone { display: block !important; }
}
@media print { section { break-before: page; } figure, tr { break-inside: avoid; } }
)css";

// The heading's content, already escaped.
std::string heading(const std::string& html) {
  const auto from = html.find("<h2>"), to = html.find("</h2>");
  return from == std::string::npos || to == std::string::npos ? "" : html.substr(from + 4, to - from - 4);
}

}  // namespace

std::string escape(const std::string& text) {
  std::string out;
  out.reserve(text.size());
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

std::vector<Section> read_sections(const std::filesystem::path& folder) {
  const auto path = folder / "index.html";
  std::error_code missing;
  if (!std::filesystem::exists(path, missing)) return {};
  std::ifstream file(path, std::ios::binary);
  const std::string page{std::istreambuf_iterator<char>(file), {}};
  if (page.find(generator(Cover{}.title)) == std::string::npos) {
    throw OptionError(fmt::format(
        "--out {}: it holds an index.html that is not a report of the zoo. Name another folder.", folder.string()));
  }
  std::vector<Section> sections;
  for (auto at = page.find(begin_mark); at != std::string::npos; at = page.find(begin_mark, at + 1)) {
    const auto name = at + begin_mark.size();
    const auto html = page.find("-->\n", name);
    const auto end = page.find(end_mark, name);
    if (html == std::string::npos || end == std::string::npos || html > end) continue;
    sections.push_back({page.substr(name, html - name), page.substr(html + 4, end - html - 4)});
  }
  return sections;
}

std::string make_page(const std::vector<Section>& sections, const Cover& cover) {
  const auto title = escape(cover.title);
  std::string links, body;
  for (const auto& section : sections) {
    links += fmt::format("<li><a href=\"#{}\">{}</a></li>\n", section.pipeline, heading(section.html));
    body += fmt::format("{}{}-->\n{}{}", begin_mark, section.pipeline, section.html, end_mark);
  }
  return fmt::format(R"(<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
{}
<title>{}</title>
<style>{}</style>
</head>
<body>
<header>
<h1>{}</h1>
<p class="lead">{}</p>
<nav aria-label="Sections"><ul>
{}</ul></nav>
</header>
<main>{}
</main>
</body>
</html>
)",
                     generator(cover.title), title, style, title, escape(cover.lead), links, body);
}

}  // namespace armagrad::zoo
