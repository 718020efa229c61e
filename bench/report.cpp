#include "bench/report.hpp"

#include <algorithm>
#include <fstream>

#include <fmt/format.h>

#include <armagrad/autodiff/error.hpp>

#include "bench/page.hpp"
#include "zoo/output.hpp"

namespace armagrad::bench {

Json read_report(const std::filesystem::path& folder) {
  const auto path = folder / "bench.json";
  Json report{{"written", ""},           {"cpu", ""}, {"cpus", 0}, {"races", Json::array()}, {"costs", Json::object()},
              {"targets", Json::array()}};
  if (!std::filesystem::exists(path)) {
    if (std::filesystem::exists(folder / "index.html"))
      throw OptionError(fmt::format("--out {}: it holds another page. Name another folder.", folder.string()));
    return report;
  }
  std::ifstream file(path);
  const auto there = Json::parse(file, nullptr, false);
  if (there.is_discarded() || !there.contains("races") || !there.contains("costs"))
    throw OptionError(fmt::format("{}: it is not a benchmark's report. Name another folder.", path.string()));
  return there;
}

void add_race(Json& report, const Json& race) {
  auto& races = report["races"];
  const auto old = std::find_if(races.begin(), races.end(), [&](const Json& r) {
    return r["row"] == race["row"] && r["threads"] == race["threads"];
  });
  if (old == races.end())
    races.push_back(race);
  else
    *old = race;
}

void write_report(const std::filesystem::path& folder, const Json& report) {
  std::string text = "{";
  for (const auto& [key, value] : report.items()) {
    text += fmt::format("{}\n{}: ", text.size() > 1 ? "," : "", Json(key).dump());
    if (key == "races") {  // a race per line
      text += "[";
      for (std::size_t i = 0; i < value.size(); ++i) text += (i ? ",\n  " : "\n  ") + value[i].dump();
      text += "]";
    } else {
      text += value.dump();
    }
  }
  zoo::write_files(folder, {{"bench.json", text + "\n}\n"}, {"index.html", make_page(report)}});
}

std::string race_text(const Json& race) {
  const int threads = race["threads"];
  std::string out = fmt::format("\n{} [{}], {} thread{}\n  {:<16}{:>10}{:>20}{:>9}{:>18}{:>10}\n",
                                race["title"].get<std::string>(), race["row"].get<std::string>(), threads,
                                threads == 1 ? "" : "s", "", "median", "quartiles", "ratio", "quartiles", "products");
  for (const auto& c : race["contestants"]) {
    const auto &s = c["seconds"], &r = c["ratio"];
    out +=
        fmt::format("  {:<16}{:>10}{:>20}{:>9.3f}{:>18}{:>10}\n", c["name"].get<std::string>(), time_text(s["median"]),
                    time_text(s["low"]) + " - " + time_text(s["high"]), r["median"].get<double>(),
                    fmt::format("{:.3f} - {:.3f}", r["low"].get<double>(), r["high"].get<double>()),
                    c["products"].is_null() ? "" : fmt::format("{:.1f} %", 100 * c["products"].get<double>()));
  }
  for (const auto& l : race["left_out"])
    out += fmt::format("  {} is left out: {}\n", l["name"].get<std::string>(), l["why"].get<std::string>());
  return out;
}

std::string cost_text(const std::string& name, const Json& cost) {
  std::string out = "\n" + name + "\n";
  for (const auto& table : cost_tables(name, cost)) {
    out += "  " + table.caption + "\n";
    for (const auto& row : table.rows) {
      out += "   ";
      for (std::size_t i = 0; i < row.size(); ++i)
        out += i ? fmt::format("{:>16}", row[i]) : fmt::format(" {:<34}", row[i]);
      out += "\n";
    }
  }
  return out;
}

std::string targets_text(const Json& targets) {
  std::string out;
  for (const auto& t : targets)
    out += fmt::format("  {:<8}{:<72}{:>9.3f}  ({} {})\n", t["reached"].get<bool>() ? "reached" : "MISSED",
                       t["what"].get<std::string>(), t["seen"].get<double>(),
                       t["least"].get<bool>() ? "at least" : "at most", t["limit"].get<double>());
  return out.empty() ? out : "\nTargets\n" + out;
}

}  // namespace armagrad::bench
