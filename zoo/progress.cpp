#include "zoo/progress.hpp"

#include <chrono>
#include <iostream>
#include <limits>
#include <mutex>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "zoo/format.hpp"

namespace armagrad::zoo {
namespace {

double steady_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// A longer line would wrap, and a wrapped line cannot be rewritten.
std::size_t terminal_width() {
  winsize size{};
  return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1 ? size.ws_col - 1 : 79;
}

constexpr auto clear_line = "\r\x1b[K";

// What the runs of this program share: lines are written whole, and the terminal's one tells of all of them.
std::mutex writing;
std::vector<Progress*> running;
std::ostream* line_stands_on = nullptr;

}  // namespace

Clock::Clock() : start_(steady_seconds()) {}
double Clock::seconds() const { return steady_seconds() - start_; }

Progress::Progress(std::string title, long total, ProgressSettings settings)
    : title_(std::move(title)), total_(total), settings_(std::move(settings)) {
  if (!settings_.terminal) settings_.terminal = !settings_.out && isatty(STDERR_FILENO) == 1;
  if (!settings_.out) settings_.out = &std::cerr;
  if (!settings_.clock) settings_.clock = steady_seconds;
  start_ = settings_.clock();
  shown_ = *settings_.terminal ? -std::numeric_limits<double>::infinity() : start_;
  const std::lock_guard lock(writing);
  running.push_back(this);
}

Progress::~Progress() {
  const std::lock_guard lock(writing);
  std::erase(running, this);
  if (line_stands_on != settings_.out || !running.empty()) return;
  *settings_.out << '\n' << std::flush;
  line_stands_on = nullptr;
}

double Progress::elapsed() const { return settings_.clock() - start_; }

bool Progress::due(long done) {
  const double now = settings_.clock();
  const bool is = *settings_.terminal ? now - shown_ >= 0.1
                                      : now - shown_ >= 5 || (settings_.every > 0 && done % settings_.every == 0);
  if (is) shown_ = now;
  return is;
}

void Progress::update(long epoch, double loss) {
  if (due(epoch))
    show(fmt::format("{}: epoch {}/{}, loss {:#.5g}", title_, epoch, total_, loss),
         fmt::format("{}: epoch {}, loss {:#.5g}", title_, epoch, loss), epoch == 0 ? 0 : epoch + 1);
}

void Progress::update(long done, const std::string& things) {
  if (due(done))
    show(fmt::format("{}: {}/{} {}", title_, done, total_, things), fmt::format("{}: {} {}", title_, done, things),
         done);
}

void Progress::show(std::string line, std::string brief, long done) {
  const double spent = shown_ - start_;
  line += ", " + duration(spent);
  if (done > 0)
    line += fmt::format(", at most {} left",
                        duration(spent / static_cast<double>(done) * static_cast<double>(total_ - done)));
  const std::lock_guard lock(writing);
  if (!*settings_.terminal) {
    *settings_.out << line << '\n' << std::flush;
    return;
  }
  brief_ = std::move(brief);
  if (running.size() > 1) {
    line.clear();
    for (const Progress* run : running)
      if (!run->brief_.empty()) line += (line.empty() ? "" : " | ") + run->brief_;
  }
  *settings_.out << clear_line << line.substr(0, terminal_width()) << std::flush;
  line_stands_on = settings_.out;
}

void Progress::finish(const std::string& text) {
  const std::lock_guard lock(writing);
  brief_.clear();
  *settings_.out << (line_stands_on == settings_.out ? clear_line : "") << title_ << ": " << text << '\n' << std::flush;
  line_stands_on = nullptr;
}

}  // namespace armagrad::zoo
