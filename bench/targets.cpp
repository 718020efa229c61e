#include "bench/targets.hpp"

#include <optional>

#include <fmt/format.h>

#include "bench/statistics.hpp"

namespace armagrad::bench {
namespace {

const Json* contestant(const Json& report, const std::string& row, int threads, const std::string& name) {
  if (!report.contains("races")) return nullptr;
  for (const auto& race : report["races"]) {
    if (race["row"] != row || race["threads"] != threads) continue;
    for (const auto& c : race["contestants"])
      if (c["name"] == name) return &c;
  }
  return nullptr;
}

}  // namespace

Json targets(const Json& report) {
  Json all = Json::array();
  const auto at_most = [&all](std::string what, double limit, double seen) {
    all.push_back(
        {{"what", std::move(what)}, {"limit", limit}, {"least", false}, {"seen", seen}, {"reached", seen <= limit}});
  };
  // Time per step over that of another contestant in the same rounds.
  const auto against = [&](const char* row, int threads, const char* name, const char* other, double limit) {
    const Json* a = contestant(report, row, threads, name);
    const Json* b = contestant(report, row, threads, other);
    if (a == nullptr || b == nullptr) return;
    at_most(fmt::format("{}{}: {} / {}", row, threads == 1 ? "" : fmt::format(", {} threads", threads), name, other),
            limit, ratio((*a)["rounds"].get<std::vector<double>>(), (*b)["rounds"].get<std::vector<double>>()).median);
  };
  const auto products = [&](const char* row, double limit) {
    for (const char* name : {"armagrad", "armagrad-replay"}) {
      const Json* a = contestant(report, row, 1, name);
      if (a == nullptr || (*a)["products"].is_null()) continue;
      const double seen = (*a)["products"];
      all.push_back({{"what", fmt::format("{}: {}, share of time in products", row, name)},
                     {"limit", limit},
                     {"least", true},
                     {"seen", seen},
                     {"reached", seen >= limit}});
    }
  };
  against("small-64", 1, "armagrad", floor_name, 0.75);
  against("small-64", 1, "armagrad-replay", floor_name, 0.65);
  against("small-1437", 1, "armagrad", floor_name, 0.6);
  against("small-1437", 1, "armagrad-replay", floor_name, 0.58);
  for (const char* name : {"armagrad", "armagrad-replay"}) against("large-sgd", 1, name, "jax", 0.95);
  products("large-sgd", 0.93);
  products("large-momentum", 0.90);
  products("pgd", 0.97);
  for (const char* peer : {"pytorch", "torch-compile", "libtorch", "jax"}) against("pgd", 1, "armagrad", peer, 1);
  for (const Row& row : rows())
    for (const char* peer : {"pytorch", "jax"}) against(row.name.c_str(), 2, "armagrad", peer, 1);

  if (!report.contains("costs")) return all;
  const Json& costs = report["costs"];
  if (costs.contains("nodes")) {
    const Json& operation = costs["nodes"]["operations"][0];
    const Json& longest = operation["chains"].back();
    const auto name = operation["name"].get<std::string>();
    const auto of = fmt::format("{} tiny nodes ({})", longest["nodes"].get<int>(), name);
    at_most(of + ", ns each to record", 25, 1e9 * longest["record"].get<double>());
    at_most(of + ", ns each backward", 45, 1e9 * longest["backward"].get<double>());
    at_most(of + ", bytes each", 80, longest["bytes"].get<double>());
    at_most(of + ", s forward and backward the first time", 0.15, longest["first"].get<double>());
  }
  if (costs.contains("compile")) {
    const Json& file = costs["compile"]["files"].back();
    at_most(fmt::format("compile time of {} / <armadillo>", file["name"].get<std::string>()), 1.3,
            file["ratio"]["median"].get<double>());
  }
  return all;
}

}  // namespace armagrad::bench
