#include "bench/page.hpp"

#include <algorithm>
#include <cmath>
#include <map>

#include <fmt/format.h>

#include "zoo/page.hpp"
#include "zoo/plot.hpp"

namespace armagrad::bench {
namespace {

using zoo::escape;

constexpr auto style = R"css(<style>
h4 { margin: 1.4rem 0 .4rem; font-size: .875rem; font-weight: 500; color: var(--muted); }
.bars { font-size: .9rem; font-variant-numeric: tabular-nums; }
.bar { display: grid; grid-template-columns: 8.5rem 1fr 9.5rem; gap: 0 .8rem; align-items: center; padding: .2rem 0; }
.bar .name { white-space: nowrap; }
.bar .value { text-align: right; white-space: nowrap; }
.bar .value small { display: inline-block; min-width: 4.6rem; color: var(--muted); font-size: .8125rem; }
.track { position: relative; height: 1.15rem; background: linear-gradient(var(--ink), var(--ink)) var(--one) 0 / 1px 100% no-repeat; }
.track i { position: absolute; top: .15rem; bottom: .15rem; border-radius: 2px; background: var(--c8); opacity: .6; }
.track b { position: absolute; top: 50%; height: 2px; margin-top: -1px; background: var(--ink); }
.armagrad .track i { background: var(--c1); opacity: 1; }
.armagrad .name { font-weight: 650; }
.ticks { padding: 0; }
.ticks .track { height: 1.2rem; background: none; border-top: 1px solid var(--rule); color: var(--muted); font-size: .75rem; }
.ticks .track span { position: absolute; top: .1rem; transform: translateX(-50%); white-space: nowrap; }
td.reached { color: var(--good); } td.missed { color: var(--bad); font-weight: 650; }
td.what { white-space: normal; }
@media (max-width: 600px) {
  .bar { grid-template-columns: 1fr auto; }
  .bar .track { grid-column: 1 / -1; grid-row: 2; }
  .ticks .track { grid-row: 1; }
}
</style>
)css";

std::string threads_text(int n) { return fmt::format("{} thread{}", n, n == 1 ? "" : "s"); }

std::string table(const CostTable& t) {
  std::string out = fmt::format("<div class=\"scroll\" tabindex=\"0\"><table>{}\n",
                                t.caption.empty() ? "" : fmt::format("<caption>{}</caption>", escape(t.caption)));
  for (std::size_t r = 0; r < t.rows.size(); ++r) {
    out += r == 0 ? "<thead><tr>" : "<tr>";
    for (std::size_t i = 0; i < t.rows[r].size(); ++i)
      out += r == 0   ? fmt::format("<th scope=\"col\">{}</th>", escape(t.rows[r][i]))
             : i == 0 ? fmt::format("<th scope=\"row\">{}</th>", escape(t.rows[r][i]))
                      : fmt::format("<td>{}</td>", escape(t.rows[r][i]));
    out += r == 0 ? "</tr></thead><tbody>\n" : "</tr>\n";
  }
  return out + "</tbody></table></div>\n";
}

std::string paragraph(const std::string& text) { return fmt::format("<p>{}</p>\n", escape(text)); }

// Where ratios stand on a logarithmic axis, in per cent of its width.
struct Axis {
  double low = 0.5, high = 2;
  void include(double ratio) {
    while (ratio < low) low /= 2;
    while (ratio > high) high *= 2;
  }
  double at(double ratio) const { return 100 * std::log(ratio / low) / std::log(high / low); }
};

std::string bars(const Json& race, const Axis& axis) {
  const auto one = fmt::format("--one: {:.2f}%", axis.at(1));
  std::string out = fmt::format("<h4>{}</h4>\n<div class=\"bars\" style=\"{}\">\n", threads_text(race["threads"]), one);
  for (const auto& c : race["contestants"]) {
    const auto name = c["name"].get<std::string>();
    const double ratio = c["ratio"]["median"], low = c["ratio"]["low"], high = c["ratio"]["high"];
    const double from = axis.at(std::min(ratio, 1.0)), to = axis.at(std::max(ratio, 1.0));
    out += fmt::format(
        "<div class=\"bar{}\"><span class=\"name\">{}</span><span class=\"track\"><i "
        "style=\"left:{:.2f}%;width:{:.2f}%\"></i><b style=\"left:{:.2f}%;width:{:.2f}%\"></b></span>"
        "<span class=\"value\">{:.2f}×&ensp;<small>{}</small></span></div>\n",
        name.starts_with("armagrad") ? " armagrad" : "", escape(name), from, to - from, axis.at(low),
        axis.at(high) - axis.at(low), ratio, escape(time_text(c["seconds"]["median"])));
  }
  std::string ticks;
  const int octaves = static_cast<int>(std::lround(std::log2(axis.high / axis.low)));
  const int below = static_cast<int>(std::lround(-std::log2(axis.low))), step = octaves > 5 ? 2 : 1;
  for (int i = below % step; i <= octaves; i += step) {  // so that 1x has a tick
    const double ratio = axis.low * std::exp2(i);
    ticks += fmt::format("<span style=\"left:{:.2f}%\">{:g}×</span>", axis.at(ratio), ratio);
  }
  out += fmt::format(
      "<div class=\"bar ticks\"><span class=\"name\"></span><span "
      "class=\"track\">{}</span><span></span></div>\n</div>\n",
      ticks);
  for (const auto& l : race["left_out"])
    out += fmt::format("<p class=\"lead\">{} is left out: {}</p>\n", escape(l["name"].get<std::string>()),
                       escape(l["why"].get<std::string>()));
  return out;
}

bool is_sweep(const Json& race) {
  const auto row = race["row"].get<std::string>();
  return row.starts_with("width-") || row.starts_with("batch-");
}

zoo::Section targets(const Json& report) {
  std::string html =
      "<section id=\"targets\"><h2>Targets</h2>\n<p>What armagrad sets itself to reach, and what this run saw. Ratios "
      "are medians over "
      "rounds in which both contestants took their turns.</p>\n<div class=\"scroll\" tabindex=\"0\"><table>\n"
      "<thead><tr><th scope=\"col\">what</th><th scope=\"col\">target</th><th scope=\"col\">seen</th><th "
      "scope=\"col\"></th></tr></thead><tbody>\n";
  for (const auto& t : report["targets"]) {
    const bool reached = t["reached"];
    html +=
        fmt::format("<tr><td class=\"text what\">{}</td><td>{} {:g}</td><td>{:.3g}</td><td class=\"{}\">{}</td></tr>\n",
                    escape(t["what"].get<std::string>()), t["least"].get<bool>() ? "≥" : "≤", t["limit"].get<double>(),
                    t["seen"].get<double>(), reached ? "reached" : "missed", reached ? "reached" : "missed");
  }
  return {"targets", html + "</tbody></table></div>\n</section>"};
}

zoo::Section races(const Json& report) {
  std::string html =
      "<section id=\"races\"><h2>Side by side</h2>\n<p>Time of a step as a multiple of the hand-written one in the "
      "same round: bars to "
      "the left of the line are faster than it, bars to the right slower. The thin line on a bar spans the quartiles "
      "over "
      "the rounds. The axis is logarithmic.</p>\n";
  std::vector<std::string> seen;
  for (const auto& race : report["races"]) {
    const auto row = race["row"].get<std::string>();
    if (is_sweep(race) || std::find(seen.begin(), seen.end(), row) != seen.end()) continue;
    seen.push_back(row);
    Axis axis;
    for (const auto& r : report["races"])
      if (r["row"] == row)
        for (const auto& c : r["contestants"]) axis.include(c["ratio"]["low"]), axis.include(c["ratio"]["high"]);
    html += fmt::format("<h3>{}</h3>\n", escape(race["title"].get<std::string>()));
    for (const auto& r : report["races"])
      if (r["row"] == row) html += bars(r, axis);
  }
  return {"races", html + "</section>"};
}

zoo::Section shares(const Json& report) {
  CostTable products{"Share of a step spent in matrix products, one thread",
                     {{"", "hand-written", "armagrad", "armagrad-openblas"}}};
  CostTable memory{"Peak memory of the process that trains, MB, one thread", {{""}}};
  for (const auto& race : report["races"]) {
    if (is_sweep(race) || race["threads"] != 1) continue;
    const auto of = [&race](const std::string& name) {
      for (const auto& c : race["contestants"])
        if (c["name"] == name) return &c;
      return static_cast<const Json*>(nullptr);
    };
    auto& row = products.rows.emplace_back();
    row.push_back(race["row"]);
    for (std::size_t i = 1; i < products.rows[0].size(); ++i) {
      const Json* c = of(products.rows[0][i]);
      row.push_back(c == nullptr || (*c)["products"].is_null()
                        ? "–"
                        : fmt::format("{:.1f} %", 100 * (*c)["products"].get<double>()));
    }
    if (memory.rows[0].size() == 1)
      for (const auto& c : race["contestants"]) memory.rows[0].push_back(c["name"]);
    auto& peak = memory.rows.emplace_back();
    peak.push_back(race["row"]);
    for (std::size_t i = 1; i < memory.rows[0].size(); ++i) {
      const Json* c = of(memory.rows[0][i]);
      peak.push_back(c == nullptr ? "–" : fmt::format("{:.0f}", (*c)["memory"]["peak"].get<double>() / 1e6));
    }
  }
  return {"shares",
          "<section id=\"shares\"><h2>Products and memory</h2>\n" +
              paragraph(
                  "Of armagrad's step by its own profile, in which a product's time includes the bias it adds; of the "
                  "hand-written one by a clock around each product. Memory is that of the whole process: "
                  "program, libraries, data and interpreter.") +
              table(products) + table(memory) + "</section>"};
}

zoo::Section sweeps(const Json& report) {
  std::string html = "<section id=\"sweeps\"><h2>Against width and batch</h2>\n";
  for (const std::string kind : {"width", "batch"}) {
    std::map<std::string, zoo::Curve> curves;
    CostTable times{"", {{kind}}};
    for (const auto& race : report["races"]) {
      const auto row = race["row"].get<std::string>();
      if (!row.starts_with(kind + "-") || race["threads"] != 1) continue;
      auto& cells = times.rows.emplace_back();
      cells.push_back(row.substr(kind.size() + 1));
      for (const auto& c : race["contestants"]) {
        const auto name = c["name"].get<std::string>();
        if (times.rows.size() == 2) times.rows[0].push_back(name);
        cells.push_back(time_text(c["seconds"]["median"]));
        if (name == floor_name) continue;
        curves[name].title = name;
        curves[name].x.push_back(std::stod(cells[0]));
        curves[name].y.push_back(c["ratio"]["median"]);
      }
    }
    if (times.rows.size() == 1) continue;
    zoo::Plot plot{
        kind == "width" ? "features per layer" : "images per step", "time / hand-written", {}, true, true, {}, {}};
    for (auto& [name, curve] : curves) plot.curves.push_back(curve);
    html += fmt::format("<h3>{}</h3>\n<figure>{}<figcaption>{}</figcaption></figure>\n",
                        kind == "width" ? "Width" : "Batch", zoo::draw(plot).html,
                        kind == "width"
                            ? "Four layers of equal width but for the ten outputs, batch 64, SGD step, one thread."
                            : "64-32-16-10, SGD step, one thread.");
    html += table(times);
  }
  return {"sweeps", html + "</section>"};
}

zoo::Section costs(const Json& report) {
  const std::map<std::string, std::pair<const char*, const char*>> words{
      {"nodes",
       {"Nodes",
        "Chains of operations on 1x1 matrices. Bytes are of resident memory, per node of the first recording (a short "
        "chain's are the tape's first blocks); 'first' is the time of that recording and its backward pass, when all "
        "memory is new."}},
      {"memory",
       {"Memory of a step",
        "What the tape holds of memory for values and gradients after three steps, beside the sum of the layers' "
        "outputs."}},
      {"startup",
       {"Start-up",
        "From start to end of the zoo's program when it only prints its help, beside a program that does nothing."}},
      {"compile", {"Compile time", "Files that only include a header."}}};
  std::string html = "<section id=\"costs\"><h2>Costs</h2>\n";
  for (const auto& [name, cost] : report["costs"].items()) {
    html += fmt::format("<h3>{}</h3>\n{}", words.at(name).first, paragraph(words.at(name).second));
    if (name == "nodes") {
      zoo::Plot plot{"nodes in the chain", "ns per node", {}, true, false, {}, {}};
      int color = 0;
      for (const auto& operation : cost["operations"]) {
        zoo::Curve record{operation["name"].get<std::string>() + ", record", {}, {}, zoo::Mark::line, ++color},
            backward = record;
        backward.title = operation["name"].get<std::string>() + ", backward";
        backward.mark = zoo::Mark::dashed;
        for (const auto& chain : operation["chains"]) {
          for (auto* curve : {&record, &backward}) curve->x.push_back(chain["nodes"]);
          record.y.push_back(1e9 * chain["record"].get<double>());
          backward.y.push_back(1e9 * chain["backward"].get<double>());
        }
        plot.curves.push_back(record);
        plot.curves.push_back(backward);
      }
      html += fmt::format("<figure>{}<figcaption>Cost against depth.</figcaption></figure>\n", zoo::draw(plot).html);
    }
    for (const auto& t : cost_tables(name, cost)) html += table(t);
  }
  return {"costs", html + "</section>"};
}

zoo::Section how(const Json& report) {
  CostTable who{"", {{"contestant", "version", "products by", "largest deviation of a loss"}}};
  std::map<std::string, double> deviations;
  for (const auto& race : report["races"])
    for (const auto& c : race["contestants"]) {
      auto& worst = deviations[c["name"]];
      worst = std::max(worst, c["deviation"].get<double>());
    }
  std::vector<std::string> seen;
  for (const auto& race : report["races"]) {
    for (const auto& c : race["contestants"]) {
      const auto name = c["name"].get<std::string>();
      if (std::find(seen.begin(), seen.end(), name) != seen.end()) continue;
      seen.push_back(name);
      who.rows.push_back({name, c["info"]["version"], c["info"]["blas"],
                          name == floor_name ? "–" : fmt::format("{:.1e}", deviations[name])});
    }
  }
  return {
      "how",
      "<section id=\"how\"><h2>How it was measured</h2>\n" +
          fmt::format(
              "<dl class=\"facts\"><dt>Processor</dt><dd>{}, {} processors</dd><dt>Written</dt><dd>{}</dd><dt>All "
              "figures</dt><dd><a href=\"bench.json\">bench.json</a></dd></dl>\n",
              escape(report["cpu"].get<std::string>()), report["cpus"].get<int>(),
              escape(report["written"].get<std::string>())) +
          paragraph(
              "Every contestant is a process of its own that starts from the same weights and data; before anything is "
              "timed its first losses must agree with those of the hand-written code. Then they take turns, round "
              "after round, each on as many processors as threads, the others standing still. Each turn "
              "begins from the first weights and with steps that are not timed; the time is that of a loop over steps "
              "inside of the process. No "
              "contestant loads data or reads the loss in the loop.") +
          table(who) + "</section>"};
}

}  // namespace

std::string time_text(double seconds) {
  if (seconds < 1e-3) return fmt::format("{:.1f} us", seconds * 1e6);
  if (seconds < 1) return fmt::format("{:.2f} ms", seconds * 1e3);
  return fmt::format("{:.2f} s", seconds);
}

std::vector<CostTable> cost_tables(const std::string& name, const Json& cost) {
  std::vector<CostTable> all;
  if (name == "nodes") {
    for (const auto& operation : cost["operations"]) {
      CostTable t{operation["name"], {{"nodes", "record, ns", "backward, ns", "bytes", "first"}}};
      for (const auto& c : operation["chains"])
        t.rows.push_back({fmt::format("{}", c["nodes"].get<int>()),
                          fmt::format("{:.1f}", 1e9 * c["record"].get<double>()),
                          fmt::format("{:.1f}", 1e9 * c["backward"].get<double>()),
                          fmt::format("{:.0f}", c["bytes"].get<double>()), time_text(c["first"])});
      all.push_back(t);
    }
  } else if (name == "memory") {
    CostTable t{"", {{"row", "outputs, kB", "tape, kB", "ratio"}}};
    for (const auto& s : cost["steps"])
      t.rows.push_back({s["row"], fmt::format("{:.1f}", s["activations"].get<double>() / 1e3),
                        fmt::format("{:.1f}", s["tape"].get<double>() / 1e3),
                        fmt::format("{:.2f}", s["ratio"].get<double>())});
    all.push_back(t);
  } else if (name == "startup") {
    all.push_back({"", {{"program", "median", "quartiles"}}});
    for (const char* program : {"zoo", "nothing"}) {
      const auto& s = cost[program];
      all.back().rows.push_back({program, time_text(s["median"]), time_text(s["low"]) + " – " + time_text(s["high"])});
    }
  } else {
    CostTable t{cost["compiler"], {{"file that includes", "median", "quartiles", "ratio"}}};
    for (const auto& f : cost["files"])
      t.rows.push_back({f["name"], time_text(f["seconds"]["median"]),
                        time_text(f["seconds"]["low"]) + " – " + time_text(f["seconds"]["high"]),
                        fmt::format("{:.2f}", f["ratio"]["median"].get<double>())});
    all.push_back(t);
  }
  return all;
}

std::string make_page(const Json& report) {
  std::vector<zoo::Section> sections;
  const bool raced =
      std::any_of(report["races"].begin(), report["races"].end(), [](const Json& r) { return !is_sweep(r); });
  const bool swept = std::any_of(report["races"].begin(), report["races"].end(), is_sweep);
  if (raced) sections.push_back(races(report));
  if (!report["targets"].empty()) sections.push_back(targets(report));
  if (raced) sections.push_back(shares(report));
  if (swept) sections.push_back(sweeps(report));
  if (!report["costs"].empty()) sections.push_back(costs(report));
  if (!report["races"].empty()) sections.push_back(how(report));
  if (!sections.empty()) sections.front().html.insert(0, style);
  return zoo::make_page(
      sections, {"armagrad bench", "armagrad beside hand-written code, PyTorch, libtorch and JAX, in one run."});
}

}  // namespace armagrad::bench
