// Progress of a long training run, for a person at a terminal and for a log file.
#pragma once

#include <functional>
#include <iosfwd>
#include <optional>
#include <string>

namespace armagrad::zoo {

struct ProgressSettings {
  long every = 5000;                ///< off a terminal, each `every`-th epoch gets a line; 0: only time brings lines
  std::ostream* out = nullptr;      ///< standard error unless named
  std::optional<bool> terminal{};   ///< whether `out` is a terminal; found out for standard error, else no
  std::function<double()> clock{};  ///< seconds; a steady clock unless given
};

/// Seconds since it was made, on a steady clock.
class Clock {
 public:
  Clock();
  double seconds() const;

 private:
  double start_;
};

/// Tells how far a run is. On a terminal one line is rewritten, ten times a second at most; elsewhere a plain line is
/// written each `every`-th epoch, and after 5 seconds without one:
///
///     model 5: epoch 5000/100000, loss 0.40489, 2.10 s, at most 39.9 s left
///
/// An update that writes nothing reads the clock and returns (some 30 ns), so it may stand in any training loop. Runs
/// may go side by side in threads of their own; on a terminal they then share the line.
class Progress {
 public:
  /// @param title what runs, the start of each line
  /// @param total epochs after which the run ends at the latest; the time left is reckoned to there
  Progress(std::string title, long total, ProgressSettings settings = {});
  ~Progress();  ///< leaves the terminal's cursor on a fresh line
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// After epoch `epoch` (counted from 0, as losses are logged) with this loss.
  void update(long epoch, double loss);

  /// After `done` of the total things: "title: 4711/110000 attacks, ...".
  void update(long done, const std::string& things);

  /// The last line: "title: text", in place of the rewritten one.
  void finish(const std::string& text);

  /// Seconds since construction.
  double elapsed() const;

 private:
  bool due(long done);
  void show(std::string line, std::string brief, long done);

  std::string title_;
  long total_;
  ProgressSettings settings_;
  double start_;
  double shown_;
  std::string brief_;  // what it says on a line it shares
};

}  // namespace armagrad::zoo
