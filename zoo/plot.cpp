#include "zoo/plot.hpp"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <iterator>
#include <limits>
#include <memory>
#include <regex>
#include <sstream>
#include <string_view>
#include <system_error>

#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>

#include <armagrad/autodiff/error.hpp>

#include "zoo/page.hpp"

extern char** environ;  // NOLINT(readability-redundant-declaration): POSIX leaves the declaration to the program

namespace armagrad::zoo {
namespace {

// Gnuplot knows no CSS. It is given colours that nobody would choose, rgb(1, 2, n), and restyle() puts the page's
// variables in their place.
enum Color { ink = 1, muted = 2, grid = 3, curve = 16 };

std::string lc(int color) { return fmt::format("lc rgb '#0102{:02x}'", color); }

std::string css_color(int color) {
  switch (color) {
    case muted:
      return "var(--muted)";
    case grid:
      return "var(--grid)";
    default:
      return color > curve ? fmt::format("var(--c{})", color - curve) : "var(--ink)";
  }
}

// A gnuplot string: in single quotes nothing but the quote is special; a line break would end the command.
std::string quoted(const std::string& text) {
  std::string out = "'";
  for (const char c : text) {
    if (c == '\'') out += '\'';
    out += c == '\n' || c == '\r' ? ' ' : c;
  }
  return out + "'";
}

std::string number(double value) { return std::isfinite(value) ? fmt::format("{:.7g}", value) : "NaN"; }

struct Size {
  const char* shown;  // the page's class for where this size is shown
  int width, height, font;
};
constexpr Size sizes[] = {{"on-page", 736, 420, 14}, {"on-phone", 360, 320, 12}};

struct CloseFile {
  void operator()(std::FILE* file) const { std::fclose(file); }
};
using File = std::unique_ptr<std::FILE, CloseFile>;

File temporary_file() {
  File file(std::tmpfile());
  if (!file) throw Error(fmt::format("no temporary file for gnuplot ({}).", std::generic_category().message(errno)));
  return file;
}

std::string content(std::FILE* file) {
  std::string out;
  std::rewind(file);
  char buffer[1 << 14];
  while (const auto n = std::fread(buffer, 1, sizeof buffer, file)) out.append(buffer, n);
  return out;
}

// What gnuplot writes for this script.
std::string gnuplot(const std::string& script) {
  const File in = temporary_file(), out = temporary_file(), errors = temporary_file();
  if (std::fwrite(script.data(), 1, script.size(), in.get()) != script.size() || std::fflush(in.get()) != 0)
    throw Error(
        fmt::format("the temporary file for gnuplot cannot be written ({}).", std::generic_category().message(errno)));
  std::rewind(in.get());

  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, fileno(in.get()), 0);
  posix_spawn_file_actions_adddup2(&actions, fileno(out.get()), 1);
  posix_spawn_file_actions_adddup2(&actions, fileno(errors.get()), 2);
  char name[] = "gnuplot";
  char* arguments[] = {name, nullptr};
  pid_t process = 0;
  const int failed = posix_spawnp(&process, name, &actions, nullptr, arguments, environ);
  posix_spawn_file_actions_destroy(&actions);
  if (failed == ENOENT) throw Error("gnuplot is not installed (Debian package gnuplot-nox).");
  if (failed) throw Error(fmt::format("gnuplot does not start ({}).", std::generic_category().message(failed)));

  int status = 0;
  while (waitpid(process, &status, 0) < 0) {
    if (errno != EINTR) throw Error(fmt::format("gnuplot was lost ({}).", std::generic_category().message(errno)));
  }
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
    throw Error(fmt::format("gnuplot failed: {}", content(errors.get())));
  return content(out.get());
}

// Gnuplot's SVG as the page wants it: the page's font and colours, no background, no ids (two plots on one page would
// share them), no <title>s (browsers show them as tooltips), and points as circles instead of references to symbols.
std::string restyle(const std::string& svg, const Size& size) {
  static const std::regex color(R"(rgb\(\s*1,\s*2,\s*(\d+)\))");
  static const std::regex point(
      R"re(<use xlink:href='#gpPt([56])' transform='translate\(([^,]*),([^)]*)\) scale\(([^)]*)\)' color='([^']*)'/>)re");
  static const std::regex noise(R"re( (id="[^"]*"|font-family="[^"]*"|class="gridline")|<title>[^<]*</title>)re");
  static const std::regex group(
      R"re(<g fill="none" color="[^"]*" stroke="[^"]*" (stroke-width="[^"]*") stroke-linecap="butt" stroke-linejoin="miter">)re");

  auto body = svg.substr(svg.find("</defs>") + 7);
  body = std::regex_replace(body, noise, "");
  body = std::regex_replace(body, group, "<g $1>");
  body = std::regex_replace(body, std::regex(R"(<g stroke-width="[^"]*">\s*</g>\s*)"), "");
  std::string out = fmt::format(
      "<svg class=\"{}\" viewBox=\"0 0 {} {}\" fill=\"none\" stroke-linejoin=\"round\" aria-hidden=\"true\">\n",
      size.shown, size.width, size.height);
  std::istringstream lines(body.substr(0, body.rfind("</g>")));
  for (std::string line; std::getline(lines, line);) {
    line.erase(0, line.find_first_not_of(" \t"));
    if (line.empty()) continue;
    std::smatch found;
    if (std::regex_search(line, found, point)) {
      const bool ring = found[1] == "5";
      line = fmt::format("<circle cx='{}' cy='{}' r='{}' {}='{}'/>", found[2].str(), found[3].str(), found[4].str(),
                         ring ? "stroke-width='1.5' stroke" : "fill-opacity='.75' fill", found[5].str());
    }
    for (; std::regex_search(line, found, color);)
      line = found.prefix().str() + css_color(std::stoi(found[1])) + found.suffix().str();
    for (const std::string_view black : {"=\"black\"", "='black'"})
      for (auto at = line.find(black); at != std::string::npos; at = line.find(black))
        line.replace(at, black.size(), "=\"var(--ink)\"");
    out += line + '\n';
  }
  return out + "</svg>\n";
}

enum class Sample { line, dashed, dot, ring, bar, mark };

// One entry of the legend. It is the page's, not gnuplot's: the page can wrap it and knows how wide text is.
std::string legend_entry(const std::string& title, Sample sample, int color) {
  if (title.empty()) return "";
  const char* drawing = "";
  switch (sample) {
    case Sample::line:
      drawing = "<path d='M0 5h24' stroke-width='2' stroke";
      break;
    case Sample::dashed:
      drawing = "<path d='M0 5h24' stroke-width='2' stroke-dasharray='6 3' stroke";
      break;
    case Sample::dot:
      drawing = "<circle cx='12' cy='5' r='3' fill";
      break;
    case Sample::ring:
      drawing = "<circle cx='12' cy='5' r='3.4' stroke-width='1.5' stroke";
      break;
    case Sample::bar:
      drawing = "<path d='M0 0h24v10h-24z' fill";
      break;
    case Sample::mark:
      drawing = "<path d='M0 5h24' stroke-width='2.5' stroke";
      break;
  }
  return fmt::format("<li><svg viewBox='0 0 24 10' fill='none' aria-hidden='true'>{}='{}'/></svg>{}</li>", drawing,
                     css_color(color), escape(title));
}

// The legend, then what gnuplot draws by `commands` on axes and grid that all plots share, for each size.
template <class Commands>
Picture picture(const std::string& legend, const std::string& data, Commands commands) try {
  std::string script = "set encoding utf8\n" + data;
  for (const auto& size : sizes) {
    script += fmt::format(
        "set terminal svg size {},{} fixed noenhanced font 'page,{}' butt\n"
        "set border 3 {}\nset tics nomirror out scale 0.5 textcolor rgb '#0102{:02x}'\n"
        "set grid ytics lt 1 lw 1 {}\nunset key\n{}",
        size.width, size.height, size.font, lc(muted), static_cast<int>(muted), lc(grid), commands(size));
  }
  script += "unset output\n";
  const auto svgs = gnuplot(script);
  Picture result;
  if (!legend.empty()) result.html = "<ul class=\"legend\">" + legend + "</ul>\n";
  std::size_t at = 0;
  for (const auto& size : sizes) {
    at = svgs.find("<svg", at);
    const auto end = svgs.find("</svg>", at);
    if (end == std::string::npos) throw Error("gnuplot wrote no whole SVG.");
    result.html += restyle(svgs.substr(at, end - at), size);
    at = end;
  }
  return result;
} catch (const Error& error) {
  return {fmt::format("<p class=\"left-out\">A plot is left out here: {}</p>\n", escape(error.what()))};
}

std::string bounds(const char* axis, const std::optional<Range>& range) {
  return range ? fmt::format("set {}range [{}:{}]\n", axis, number(range->low), number(range->high)) : "";
}

// The smallest of 1, 2, 5, 10, ... that covers the range in at most this many steps.
double step(const Range& range, int steps) {
  const double least = (range.high - range.low) / steps;
  const double power = std::pow(10, std::floor(std::log10(least)));
  for (const double digit : {1, 2, 5}) {
    if (digit * power >= least) return digit * power;
  }
  return 10 * power;
}

std::string joined(const std::vector<std::string>& parts) {
  std::string out;
  for (const auto& part : parts) out += (out.empty() ? "" : ", \\\n  ") + part;
  return out;
}

void require_size(const std::string& what, std::size_t size, const char* other, std::size_t expected) {
  if (size == expected) return;
  throw ShapeError(fmt::format("plot: {} has {} values, {} {}; there must be as many.", what, size, other, expected));
}

}  // namespace

Picture draw(const Plot& plot) {
  std::string data, legend;
  std::vector<std::string> draws;
  double largest_x = 0, smallest_x = 0;
  for (std::size_t i = 0; i < plot.curves.size(); ++i) {
    const auto& c = plot.curves[i];
    require_size(fmt::format("the curve '{}'", c.title), c.y.size(), "its x", c.x.size());
    data += fmt::format("$data{} << END\n", i);
    bool drawn = false;
    for (std::size_t k = 0; k < c.x.size(); ++k) {
      const bool shown =
          std::isfinite(c.x[k]) && std::isfinite(c.y[k]) && (!plot.log_x || c.x[k] > 0) && (!plot.log_y || c.y[k] > 0);
      drawn |= shown;
      if (shown) {
        smallest_x = std::min(smallest_x, c.x[k]);
        largest_x = std::max(largest_x, c.x[k]);
      }
      data += shown ? fmt::format("{} {}\n", number(c.x[k]), number(c.y[k])) : "NaN NaN\n";
    }
    data += "END\n";
    if (!drawn) continue;  // Gnuplot takes a curve without a single point for an error.
    const int color = curve + (c.color ? c.color : static_cast<int>(i % 8) + 1);
    const double dot = c.x.size() > 200 ? 0.35 : 0.6;
    std::string with;
    Sample sample{};
    switch (c.mark) {
      case Mark::line:
        with = "lines lw 2", sample = Sample::line;
        break;
      case Mark::dashed:
        with = "lines lw 2 dt (5, 3)", sample = Sample::dashed;
        break;
      case Mark::dots:
        with = fmt::format("points pt 7 ps {}", dot), sample = Sample::dot;
        break;
      case Mark::rings:
        with = fmt::format("points pt 6 ps {}", dot + 0.15), sample = Sample::ring;
        break;
    }
    draws.push_back(fmt::format("$data{} using 1:2 with {} {}", i, with, lc(color)));
    legend += legend_entry(c.title, sample, color);
  }
  if (draws.empty()) return {"<p class=\"left-out\">A plot is left out here: there is no finite point to draw.</p>\n"};
  // Gnuplot's own choice of ticks runs labels of five digits into each other on a phone.
  const auto x = plot.x_range.value_or(Range{smallest_x, largest_x});
  const bool long_labels = !plot.log_x && std::max(std::abs(x.low), std::abs(x.high)) >= 1000;
  return picture(legend, data, [&](const Size& size) {
    return fmt::format("set xlabel {}\nset ylabel {}\n{}{}{}{}{}plot {}\n", quoted(plot.x_label), quoted(plot.y_label),
                       long_labels && size.width < 500 ? fmt::format("set xtics {:g}\n", step(x, 5)) : "",
                       plot.log_x ? "set logscale x\nset format x '%g'\n" : "",
                       plot.log_y ? "set logscale y\nset format y '%g'\n" : "", bounds("x", plot.x_range),
                       bounds("y", plot.y_range), joined(draws));
  });
}

Picture draw(const BarChart& chart) {
  // Group g stands at x = g; its bars share the middle 0.8.
  const double width = 0.8 / static_cast<double>(std::max<std::size_t>(chart.bars.size(), 1));
  std::string data, legend;
  std::vector<std::string> boxes, over;
  bool published = false, anything = false;
  for (std::size_t i = 0; i < chart.bars.size(); ++i) {
    const auto& bars = chart.bars[i];
    const auto what = fmt::format("'{}'", bars.title);
    require_size(what, bars.values.size(), "the groups are", chart.groups.size());
    if (!bars.published.empty())
      require_size(what + " published", bars.published.size(), "the groups are", chart.groups.size());
    if (!bars.spread.empty()) require_size(what + " spread", bars.spread.size(), "the groups are", chart.groups.size());
    data += fmt::format("$data{} << END\n", i);
    for (std::size_t g = 0; g < chart.groups.size(); ++g) {
      const double nan = std::numeric_limits<double>::quiet_NaN();
      const auto spread = bars.spread.empty() ? Range{nan, nan} : bars.spread[g];
      anything |= std::isfinite(bars.values[g]);
      data += fmt::format("{:.4f} {} {} {} {}\n", static_cast<double>(g) - 0.4 + width * (static_cast<double>(i) + 0.5),
                          number(bars.values[g]), number(bars.published.empty() ? nan : bars.published[g]),
                          number(spread.low), number(spread.high));
    }
    data += "END\n";
    const int color = curve + static_cast<int>(i % 8) + 1;
    boxes.push_back(fmt::format("$data{} using 1:2:({:.4f}) with boxes {}", i, 0.92 * width, lc(color)));
    legend += legend_entry(bars.title, Sample::bar, color);
    if (!bars.spread.empty())
      over.push_back(fmt::format("$data{} using 1:4:(0):($5-$4) with vectors nohead lw 1.5 {}", i, lc(ink)));
    if (!bars.published.empty()) {
      over.push_back(fmt::format("$data{} using ($1-{:.4f}):3:({:.4f}):(0) with vectors nohead lw 3 {}", i,
                                 0.46 * width, 0.92 * width, lc(ink)));
      published = true;
    }
  }
  if (published) legend += legend_entry("published", Sample::mark, ink);
  if (!anything) return {"<p class=\"left-out\">A plot is left out here: there is no finite value to draw.</p>\n"};
  boxes.insert(boxes.end(), over.begin(), over.end());
  std::vector<std::string> names;
  for (std::size_t g = 0; g < chart.groups.size(); ++g)
    names.push_back(fmt::format("{} {}", quoted(chart.groups[g]), g));
  return picture(legend, data, [&](const Size&) {
    return fmt::format(
        "set xlabel {}\nset ylabel {}\nset style fill solid 1.0 noborder\n"
        "set xtics scale 0 ({})\nset xrange [-0.6:{}]\n{}plot {}\n",
        quoted(chart.x_label), quoted(chart.y_label), joined(names), static_cast<double>(chart.groups.size()) - 0.4,
        bounds("y", chart.y_range), joined(boxes));
  });
}

namespace {

Range finite_range(const std::vector<Image>& images) {
  Range range{std::numeric_limits<double>::infinity(), -std::numeric_limits<double>::infinity()};
  for (const auto& image : images) {
    for (const double value : image.pixels) {
      if (!std::isfinite(value)) continue;
      range.low = std::min(range.low, value);
      range.high = std::max(range.high, value);
    }
  }
  return range;
}

constexpr int shades = 32;

// Of ink, -shades ... shades for a share of -1 ... 1; 0 for NaN, too.
int shade(double share) {
  return std::isnan(share) ? 0 : static_cast<int>(std::lround(shades * std::clamp(share, -1.0, 1.0)));
}

// One path per shade, each run of equal pixels in a row one rectangle of it: a tenth of one <rect> per pixel.
template <class Share>
std::string image_html(const arma::mat& pixels, Share share) {
  std::vector<std::string> paths(2 * shades + 1);
  const auto place_of = [](int level) { return static_cast<std::size_t>(level) + std::size_t{shades}; };
  for (arma::uword r = 0; r < pixels.n_rows; ++r) {
    for (arma::uword c = 0, end = 0; c < pixels.n_cols; c = end) {
      const int level = shade(share(pixels(r, c)));
      for (end = c + 1; end < pixels.n_cols && shade(share(pixels(r, end))) == level;) ++end;
      if (level != 0) paths[place_of(level)] += fmt::format("M{} {}h{}v1h-{}z", c, r, end - c, end - c);
    }
  }
  std::string html;
  for (int level = -shades; level <= shades; ++level) {
    const auto& path = paths[place_of(level)];
    if (path.empty()) continue;
    html += fmt::format("<path {}fill-opacity=\"{:.3g}\" d=\"{}\"/>", level < 0 ? "fill=\"var(--c2)\" " : "",
                        std::abs(level) / static_cast<double>(shades), path);
  }
  return html;
}

template <class Share>
Picture gallery(const std::vector<Image>& images, int columns, const char* ink_color, Share share) {
  std::string html = fmt::format("<div class=\"gallery\" style=\"--columns: {}\">\n", columns);
  for (const auto& image : images) {
    const char* tone = image.tone == Tone::good ? " good" : image.tone == Tone::bad ? " bad" : "";
    const auto end = std::min(image.title.find('\n'), image.title.size());
    const auto below = image.title.substr(std::min(end + 1, image.title.size()));
    html += fmt::format(
        "<div class=\"tile{}\"><svg viewBox=\"0 0 {} {}\" fill=\"{}\" shape-rendering=\"crispEdges\" "
        "aria-hidden=\"true\">{}</svg>{}{}</div>\n",
        tone, image.pixels.n_cols, image.pixels.n_rows, ink_color, image_html(image.pixels, share),
        escape(image.title.substr(0, end)), below.empty() ? "" : fmt::format("<small>{}</small>", escape(below)));
  }
  return {html + "</div>\n"};
}

}  // namespace

Picture image_grid(const std::vector<Image>& images, int columns, std::optional<Range> range) {
  const Range r = range ? *range : finite_range(images);
  return gallery(images, columns, "currentColor",
                 [r](double value) { return std::max(0.0, (value - r.low) / (r.high - r.low)); });
}

Picture signed_image_grid(const std::vector<Image>& images, int columns) {
  const Range r = finite_range(images);
  const double largest = std::max(std::abs(r.low), std::abs(r.high));
  return gallery(images, columns, "var(--c1)", [largest](double value) { return value / largest; });
}

Picture confusion_matrix(const arma::umat& counts, const std::vector<std::string>& names) {
  if (counts.n_rows != counts.n_cols || counts.n_rows != names.size())
    throw ShapeError(
        fmt::format("confusion_matrix: the counts are {}x{}, there are {} names; it must be square with "
                    "as many names",
                    counts.n_rows, counts.n_cols, names.size()));
  // Right answers are shaded against the whole class, mistakes against the most frequent one.
  const arma::uword n = counts.n_rows;
  arma::umat mistakes = counts;
  mistakes.diag().zeros();
  const double most = mistakes.is_empty() ? 0 : static_cast<double>(mistakes.max());
  constexpr int side = 30, left = 44, top = 40;
  std::string html;
  const auto text = [&html](double x, double y, const char* attributes, const std::string& content) {
    html += fmt::format("<text x=\"{}\" y=\"{}\" {}>{}</text>", x, y, attributes, escape(content));
  };
  const auto middle = [](arma::uword i) { return side * (static_cast<double>(i) + 0.5); };
  for (arma::uword i = 0; i < n; ++i) {
    text(left + middle(i), top - 8, "fill=\"var(--muted)\"", names[i]);
    text(left - 12, top + middle(i) + 4.5, "fill=\"var(--muted)\"", names[i]);
    const double in_class = static_cast<double>(arma::accu(counts.row(i)));
    for (arma::uword j = 0; j < n; ++j) {
      const auto count = counts(i, j);
      const double share = static_cast<double>(count) / (i == j ? in_class : most);
      html +=
          fmt::format("<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"var(--{})\" fill-opacity=\"{:.2f}\"/>",
                      left + side * j + 1, top + side * i + 1, side - 2, side - 2,
                      count == 0 ? "grid"
                      : i == j   ? "c1"
                                 : "c2",
                      count == 0 ? 0.45 : 0.25 + 0.5 * share);
      if (count > 0) text(left + middle(j), top + middle(i) + 4.5, "fill=\"var(--ink)\"", fmt::format("{}", count));
    }
  }
  text(left + side * static_cast<double>(n) / 2, 13, "fill=\"var(--muted)\"", "taken for");
  const double centre = top + side * static_cast<double>(n) / 2;
  text(12, centre, fmt::format("fill=\"var(--muted)\" transform=\"rotate(-90 12 {})\"", centre).c_str(), "is");
  return {
      fmt::format("<svg class=\"matrix\" viewBox=\"0 0 {} {}\" font-size=\"13\" text-anchor=\"middle\" "
                  "aria-hidden=\"true\">{}</svg>\n",
                  left + side * n + 2, top + side * n + 2, html)};
}

}  // namespace armagrad::zoo
