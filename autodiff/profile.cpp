#include <algorithm>
#include <map>
#include <tuple>

#include <fmt/format.h>

#include <armagrad/autodiff/file.hpp>
#include <armagrad/autodiff/profile.hpp>

namespace armagrad {
namespace {

const char* name(Profile::Phase phase) {
  static constexpr const char* names[] = {"forward", "backward", "update"};
  return names[static_cast<int>(phase)];
}

struct Total {
  std::size_t calls = 0;
  double seconds = 0, bytes = 0, flops = 0;
  void add(const Profile::Entry& e) {
    ++calls;
    seconds += e.seconds;
    bytes += e.bytes;
    flops += e.flops;
  }
};

std::string line(const std::string& what, const std::string& phase, const Total& t, double whole) {
  const auto rate = [&t](double amount) {
    return amount > 0 && t.seconds > 0 ? fmt::format("{:.1f}", amount / t.seconds / 1e9) : std::string();
  };
  return fmt::format("{:<32} {:<8} {:>7} {:>11.1f} {:>7.1f} {:>8} {:>8}\n", what, phase, t.calls, t.seconds * 1e6,
                     whole > 0 ? 100 * t.seconds / whole : 0, rate(t.flops), rate(t.bytes));
}

// Longest first.
template <class Key>
std::vector<std::pair<Key, Total>> sorted(const std::map<Key, Total>& totals) {
  std::vector<std::pair<Key, Total>> out(totals.begin(), totals.end());
  std::stable_sort(out.begin(), out.end(),
                   [](const auto& a, const auto& b) { return a.second.seconds > b.second.seconds; });
  return out;
}

// A JSON string's content; names hold no control characters.
std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out + '"';
}

}  // namespace

double Profile::share_in_products() const {
  double products = 0;
  for (const Entry& e : entries) products += e.flops > 0 ? e.seconds : 0;
  return seconds > 0 ? products / seconds : 0;
}

std::string Profile::table() const {
  std::map<std::pair<std::string, Phase>, Total> operations;
  std::map<std::pair<std::string, Phase>, Total> paths;
  Total all;
  for (const Entry& e : entries) {
    operations[{e.operation, e.phase}].add(e);
    paths[{modules[e.module].empty() ? "(outside of modules)" : modules[e.module], e.phase}].add(e);
    all.add(e);
  }
  std::string out;
  const auto block = [&](const char* title, const auto& totals) {
    out += fmt::format("{:<32} {:<8} {:>7} {:>11} {:>7} {:>8} {:>8}\n", title, "phase", "calls", "us", "%", "GF/s",
                       "GB/s");
    for (const auto& [key, total] : sorted(totals)) out += line(key.first, name(key.second), total, seconds);
    out += '\n';
  };
  block("operation", operations);
  block("module", paths);
  out += line("all commands", "", all, seconds);
  out += fmt::format("the step took {:.1f} us: {:.1f} % in products, {:.1f} % in other commands, {:.1f} % recording\n",
                     seconds * 1e6, 100 * share_in_products(),
                     seconds > 0 ? 100 * (all.seconds / seconds - share_in_products()) : 0,
                     seconds > 0 ? 100 * (1 - all.seconds / seconds) : 0);
  return out;
}

void Profile::write_trace(const std::string& path) const {
  detail::StagedFile file(path);
  const auto put = [&file](const std::string& text) { file.write(text.data(), text.size()); };
  put("{\"displayTimeUnit\": \"ns\", \"traceEvents\": [\n");
  const char* separator = "";
  for (const Entry& e : entries) {
    put(
        fmt::format("{}{{\"name\": {}, \"cat\": \"{}\", \"ph\": \"X\", \"ts\": {:.3f}, \"dur\": {:.3f}, \"pid\": 1, "
                    "\"tid\": 1, \"args\": {{\"kernel\": {}, \"module\": {}, \"bytes\": {:.0f}, \"flops\": {:.0f}}}}}",
                    separator, quoted(e.operation), name(e.phase), e.start * 1e6, e.seconds * 1e6, quoted(e.kernel),
                    quoted(modules[e.module]), e.bytes, e.flops));
    separator = ",\n";
  }
  put("\n]}\n");
  file.publish();
}

}  // namespace armagrad
