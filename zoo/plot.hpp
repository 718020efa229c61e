// Pictures for reports: plots drawn by gnuplot and galleries of small images, as SVG whose colours follow the page's
// (light or dark, by the CSS variables --ink, --muted, --grid and --c1 ... --c8).
#pragma once

#include <optional>
#include <string>
#include <vector>

#include <armagrad/autodiff/armadillo.hpp>

#include "zoo/format.hpp"

namespace armagrad::zoo {

/// HTML for Report::figure. A plot is in it twice, for the page's width and for a phone's.
struct Picture {
  std::string html{};
};

enum class Mark { line, dashed, dots, rings };

/// Points (x_i, y_i) drawn in one way. Non-finite ones are left out; a line is broken there.
struct Curve {
  std::string title{};      ///< its name in the legend; none when empty
  std::vector<double> x{};  ///< as many as y
  std::vector<double> y{};
  Mark mark = Mark::line;
  int color = 0;  ///< 1 ... 8 of the page's colours; 0: by position in the plot
};

struct Plot {
  std::string x_label{};  ///< with the unit, e.g. "time, s"
  std::string y_label{};
  std::vector<Curve> curves{};
  bool log_x = false;
  bool log_y = false;
  std::optional<Range> x_range{};  ///< from the data unless given
  std::optional<Range> y_range{};
};

/// One bar per group, all in one colour.
struct Bars {
  std::string title{};
  std::vector<double> values{};     ///< as many as groups; NaN: no bar
  std::vector<double> published{};  ///< as many, drawn as a line across the bar; or none
  std::vector<Range> spread{};      ///< as many, drawn as whiskers; or none
};

struct BarChart {
  std::string x_label{};
  std::string y_label{};
  std::vector<std::string> groups{};  ///< short names, under the axis
  std::vector<Bars> bars{};
  std::optional<Range> y_range{};
};

/// Draws with gnuplot. A plot that cannot be drawn (gnuplot is missing, no finite point) does not cost the run its
/// report: the picture then is a paragraph that says what is left out and why.
/// @throws ShapeError when the numbers of values do not fit each other.
Picture draw(const Plot& plot);
Picture draw(const BarChart& chart);

enum class Tone { plain, good, bad };

/// A small image with a title under it, green for `good`, red for `bad`.
struct Image {
  arma::mat pixels{};   ///< as seen: rows x columns; the larger a value the more ink
  std::string title{};  ///< after a line break, what follows is small and grey
  Tone tone = Tone::plain;
};

/// A gallery, at most `columns` wide (fewer on a phone), pixels crisp at any size.
/// @param range the values without ink and with full ink; by default the smallest and largest of all images
Picture image_grid(const std::vector<Image>& images, int columns, std::optional<Range> range = {});

/// A gallery of images whose values have a sign, such as weights: positive in the page's first colour, negative in its
/// second, zero without ink. All share one scale, that of the largest value.
Picture signed_image_grid(const std::vector<Image>& images, int columns);

/// A confusion matrix: how often class r (row) was taken for class c (column). What is right stands out in one colour,
/// each mistake in another.
/// @throws ShapeError unless it is square, with as many names
Picture confusion_matrix(const arma::umat& counts, const std::vector<std::string>& names);

}  // namespace armagrad::zoo
