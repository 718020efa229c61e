// The report of one pipeline: its figures for programs (JSON) and its page for people (HTML), filled while it runs.
#pragma once

#include <cstdint>
#include <filesystem>
#include <limits>
#include <optional>
#include <string>
#include <unordered_set>
#include <vector>

#include "zoo/format.hpp"
#include "zoo/machine.hpp"
#include "zoo/plot.hpp"

namespace armagrad::zoo {

/// One figure, computed here and, where there is one, published.
struct Row {
  std::string id{};     ///< stable, lower case, general to particular: "digits.5.test_accuracy"
  std::string label{};  ///< its name on the page; empty: it stands in the JSON alone (the page has a table of its own)
  std::optional<double> published{};
  double here = std::numeric_limits<double>::quiet_NaN();
  std::optional<Range> spread{};  ///< smallest and largest over several seeds
  std::string unit{};             ///< "share" (the page shows per cent), "s", ... ; empty for a plain number
  std::string note{};             ///< why it differs, or what it is
  int decimals = -1;              ///< on the page; -1: 2 for shares and seconds, else 10 significant digits
  bool on_page = true;            ///< false: the page shows it in a table of its own; JSON and summary have it
};

/// A curve computed here and, where there is one, published.
struct Series {
  std::string id{};
  std::vector<double> x{};
  std::vector<double> y{};
  std::vector<double> published_x{};
  std::vector<double> published_y{};
};

struct Column {
  std::string name{};
  std::string group{};  ///< columns side by side with the same group stand under one heading
  bool text = false;    ///< text is aligned left, numbers right
};

/// A table of the page. The first column names the rows and stays in sight when a phone scrolls the others. After a
/// line break in a name or cell, what follows stands below in small letters.
struct Table {
  std::string caption{};
  std::vector<Column> columns{};
  std::vector<std::vector<std::string>> rows{};
};

/// Filled in the order of the page: what is added stands below what was there. All text is escaped.
class Report {
 public:
  /// @param pipeline the first part of its ids and the name of its JSON file: lower case letters, digits, '_'
  /// @throws ValueError when the pipeline's name is not of that form
  Report(std::string pipeline, std::string title, std::string data, std::uint64_t seed,
         Machine machine = this_machine());

  /// Adds a figure. Rows with a label that follow one another are one table: published beside here.
  /// @throws ValueError when the id is not of the form "pipeline.part.part" or was used before
  void row(const Row& row);

  /// Adds a curve to the JSON (the page shows it when it is drawn: figure(draw(...), ...)).
  /// @throws ValueError as row; ShapeError when x and y, or published_x and published_y, differ in length
  void series(Series series);

  void heading(const std::string& text);
  void text(const std::string& paragraph);
  /// Remarks under one another; nothing when there are none.
  void list(const std::vector<std::string>& items);
  /// A formula or derivation, line breaks and spaces kept.
  void formula(const std::string& lines);
  /// @throws ShapeError when a row has not as many cells as there are columns
  void table(const Table& table);
  /// @param alt what the picture shows, for those who cannot see it
  void figure(const Picture& picture, const std::string& caption, const std::string& alt);

  /// For programs: {"pipeline", "data", "machine": {"cpu", "threads", "blas"}, "seed", "rows": [{"id", "published",
  /// "here", "spread", "unit", "note"}], "series": [{"id", "x", "y", "published_x", "published_y"}]}. All keys are
  /// always there; what is absent or not finite is null, an absent published curve is [].
  std::string json() const;

  /// The figures that have a published one beside them, a line each, for a terminal or a log.
  std::string summary() const;

  /// Writes folder/<pipeline>.json and the pipeline's section of folder/index.html, where the other pipelines' sections
  /// stay. May be called again as more is known. The folder is there (prepare_output).
  /// @throws OptionError when a file cannot be written; what was there is unchanged then
  void write(const std::filesystem::path& folder) const;

 private:
  void require_new_id(const std::string& id);
  std::string comparison() const;
  void begin_block();

  std::string pipeline_, title_, data_;
  std::uint64_t seed_;
  Machine machine_;
  std::vector<Row> rows_;
  std::vector<Series> series_;
  std::unordered_set<std::string> ids_;
  std::string body_;              // the page's blocks so far, as HTML
  std::vector<Row> open_rows_{};  // the comparison table that is still growing
};

}  // namespace armagrad::zoo
