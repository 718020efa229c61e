// What a contestant is, and the conversation it has with the program that times it: a request per line on standard
// input, an answer per line (JSON) on standard output. Contestants are processes of their own, so that no two BLAS
// libraries, thread pools or allocators meet. peers.py speaks the same.
#pragma once

#include <chrono>
#include <cmath>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <functional>
#include <iostream>
#include <memory>
#include <sstream>
#include <string>
#include <utility>

#include <nlohmann/json.hpp>

#include "bench/problem.hpp"

namespace armagrad::bench {

class Contestant {
 public:
  Contestant() = default;
  Contestant(const Contestant&) = delete;
  Contestant& operator=(const Contestant&) = delete;
  virtual ~Contestant() = default;
  /// Back to the problem's parameters (train) or to no perturbation (attack). Velocities may stay.
  virtual void reset() = 0;
  /// One step as a user of this contestant writes it.
  virtual void step() = 0;
  /// The loss that the last step computed: that of before its update. Mean (train) or sum (attack) over the batch.
  virtual double loss() = 0;
};

/// Lines of /proc/self/status such as "VmHWM:   1234 kB", in bytes.
inline double memory_of_this_process(const std::string& line_name) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.rfind(line_name + ":", 0) == 0) return std::stod(line.substr(line_name.size() + 1)) * 1024;
  return std::nan("");
}

/// Seconds that this process's threads have been on a processor.
inline double processor_seconds() {
  timespec t{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

/// Answers requests until there are none:
///   info           what `info` says: {"version", "blas", "threads"}
///   check N        {"losses": of N steps from the start}
///   run WARM N     from the start, WARM steps, then N timed ones: {"seconds": of the N by the wall's clock,
///                  "processor": by all threads on processors}
///   products N     the same with the time spent in products: {"seconds", "products"}; refused without a clock for them
///   memory         {"start": bytes resident before the contestant was made, "now", "peak"}
/// A request that fails is answered by {"error": why}.
/// @param products switches the clock of the products on (true) or off, and returns the seconds on it
inline int serve(int argc, char** argv, const nlohmann::json& info,
                 const std::function<std::unique_ptr<Contestant>(const Problem&)>& make,
                 const std::function<double(bool)>& products = {}) {
  using nlohmann::json;
  using Clock = std::chrono::steady_clock;
  try {
    if (argc < 2) throw std::runtime_error("a problem's file is missing");
    const Problem problem = Problem::read(argv[argc - 1]);
    const double start = memory_of_this_process("VmRSS");
    const auto contestant = make(problem);
    const auto steps = [&contestant](int n) {
      for (int i = 0; i < n; ++i) contestant->step();
    };
    for (std::string line; std::getline(std::cin, line);) {
      std::istringstream words(line);
      std::string request;
      int warm = 0, n = 0;
      words >> request;
      json answer;
      try {
        if (request == "info") {
          answer = info;
        } else if (request == "check") {
          words >> n;
          contestant->reset();
          answer["losses"] = json::array();
          for (int i = 0; i < n; ++i) {
            contestant->step();
            answer["losses"].push_back(contestant->loss());
          }
        } else if (request == "run") {
          words >> warm >> n;
          contestant->reset();
          steps(warm);
          const double processor = processor_seconds();
          const auto begin = Clock::now();
          steps(n);
          answer["seconds"] = std::chrono::duration<double>(Clock::now() - begin).count();
          answer["processor"] = processor_seconds() - processor;
        } else if (request == "products" && products) {
          words >> n;
          contestant->reset();
          steps(1 + n / 10);
          products(true);
          const auto begin = Clock::now();
          steps(n);
          answer["seconds"] = std::chrono::duration<double>(Clock::now() - begin).count();
          answer["products"] = products(false);
        } else if (request == "memory") {
          answer = {
              {"start", start}, {"now", memory_of_this_process("VmRSS")}, {"peak", memory_of_this_process("VmHWM")}};
        } else {
          answer["error"] = "unknown request '" + request + "'";
        }
      } catch (const std::exception& e) {
        answer = {{"error", e.what()}};
      }
      std::cout << answer.dump() << std::endl;
    }
    return 0;
  } catch (const std::exception& e) {
    std::cout << json{{"error", e.what()}}.dump() << std::endl;
    return 1;
  }
}

}  // namespace armagrad::bench
