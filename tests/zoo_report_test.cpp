// Reports of the zoo: their JSON, their page, their files, plots and progress lines.
#define BOOST_TEST_MODULE zoo_report
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <limits>
#include <sstream>
#include <string>
#include <vector>

#include <boost/test/unit_test.hpp>
#include <sys/resource.h>

#include <armagrad/autodiff/error.hpp>

#include "zoo/machine.hpp"
#include "zoo/output.hpp"
#include "zoo/page.hpp"
#include "zoo/plot.hpp"
#include "zoo/progress.hpp"
#include "zoo/report.hpp"

using namespace armagrad;
using namespace armagrad::zoo;
namespace fs = std::filesystem;

namespace {

constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();
constexpr double infinity = std::numeric_limits<double>::infinity();

// A folder of its own for each test, gone afterwards.
struct Folder {
  Folder() {
    std::string name = (fs::temp_directory_path() / "zoo_report.XXXXXX").string();
    BOOST_REQUIRE(mkdtemp(name.data()));
    path = name;
  }
  ~Folder() { fs::remove_all(path); }
  fs::path path;
};

std::string read(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void write(const fs::path& path, const std::string& content) { std::ofstream(path, std::ios::binary) << content; }

std::size_t count(const std::string& text, const std::string& part) {
  std::size_t n = 0;
  for (auto at = text.find(part); at != std::string::npos; at = text.find(part, at + part.size())) ++n;
  return n;
}

void check_contains(const std::string& text, const std::string& part) {
  BOOST_CHECK_MESSAGE(text.find(part) != std::string::npos, "'" << part << "' is missing in:\n"
                                                                << text.substr(0, 4000));
}

template <class Exception = OptionError, class Action>
void check_throws(Action action, const std::string& text) {
  BOOST_CHECK_EXCEPTION(action(), Exception, [&](const Error& error) {
    BOOST_TEST_INFO(error.what());
    return std::string(error.what()).find(text) != std::string::npos;
  });
}

Report report(const std::string& pipeline, const std::string& title = "Title") {
  return {pipeline, title, "some data", 7, {"a processor", 2, "a BLAS"}};
}

bool gnuplot_is_there() {
  if (draw(Plot{"x", "y", {{"c", {0, 1}, {0, 1}}}}).html.find("is not installed") == std::string::npos) return true;
  std::cout << "Skipped: gnuplot is not installed.\n";
  return false;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(figures)

BOOST_AUTO_TEST_CASE(the_json_has_the_documented_form) {
  auto r = report("digits");
  r.row({.id = "digits.5.test_accuracy",
         .label = "Model 5",
         .published = 0.9611,
         .here = 0.9639,
         .spread = Range{0.955, 0.967},
         .unit = "share",
         .note = "why \"it\" differs"});
  r.row({.id = "digits.5.epochs", .here = 100});
  r.series({"digits.5.loss", {0, 100}, {2.38, 1.91}, {0}, {2.38831}});
  r.series({"digits.6.loss", {0}, {1}});
  BOOST_TEST(
      r.json() ==
      "{\"pipeline\": \"digits\",\n"
      "\"data\": \"some data\",\n"
      "\"machine\": {\"cpu\":\"a processor\",\"threads\":2,\"blas\":\"a BLAS\"},\n"
      "\"seed\": 7,\n"
      "\"rows\": [\n"
      "  {\"id\":\"digits.5.test_accuracy\",\"published\":0.9611,\"here\":0.9639,\"spread\":[0.955,0.967],"
      "\"unit\":\"share\",\"note\":\"why \\\"it\\\" differs\"},\n"
      "  {\"id\":\"digits.5.epochs\",\"published\":null,\"here\":100.0,\"spread\":null,\"unit\":\"\",\"note\":\"\"}\n"
      "],\n"
      "\"series\": [\n"
      "  "
      "{\"id\":\"digits.5.loss\",\"x\":[0.0,100.0],\"y\":[2.38,1.91],\"published_x\":[0.0],\"published_y\":[2.38831]},"
      "\n"
      "  {\"id\":\"digits.6.loss\",\"x\":[0.0],\"y\":[1.0],\"published_x\":[],\"published_y\":[]}\n"
      "]}\n");
}

BOOST_AUTO_TEST_CASE(numbers_that_are_not_finite_become_null) {
  auto r = report("digits");
  r.row({.id = "digits.5.seconds", .published = infinity, .here = not_a_number, .spread = Range{-infinity, 1}});
  r.series({"digits.5.loss", {0, 1}, {1, not_a_number}});
  check_contains(r.json(), R"("published":null,"here":null,"spread":[null,1.0])");
  check_contains(r.json(), R"("y":[1.0,null])");
}

BOOST_AUTO_TEST_CASE(text_that_is_not_utf8_does_not_cost_the_report) {
  auto r = report("digits");
  r.row({.id = "digits.1.epochs", .here = 1, .note = "\xff"});
  check_contains(r.json(), "\"note\":\"\xef\xbf\xbd\"");
}

BOOST_AUTO_TEST_CASE(a_report_without_figures_is_still_a_report) {
  check_contains(report("digits").json(), "\"rows\": [],\n\"series\": []}\n");
}

BOOST_AUTO_TEST_CASE(ids_are_stable_names_used_once) {
  auto r = report("digits");
  for (const std::string id :
       {"digits", "digits.", "digits..x", "digits.Loss", "regression.a", "digits.a b", "digitsx.a"}) {
    check_throws<ValueError>([&] { r.row({.id = id}); },
                             "report: the id '" + id + "' is not of the form 'digits.part.part'");
  }
  r.row({.id = "digits.5.loss"});
  check_throws<ValueError>([&] { r.row({.id = "digits.5.loss"}); }, "report: the id 'digits.5.loss' is there already.");
  check_throws<ValueError>([&] { r.series({"digits.5.loss"}); }, "is there already");
  check_throws<ValueError>([] { report("a/b"); }, "report: 'a/b' is not a pipeline's name");
}

BOOST_AUTO_TEST_CASE(curves_and_tables_must_fit) {
  auto r = report("digits");
  check_throws<ShapeError>(
      [&] {
        r.series({"digits.a", {1, 2}, {1}});
      },
      "report: series 'digits.a': x has 2 values, y 1; there must be as many.");
  check_throws<ShapeError>([&] { r.series({"digits.a", {}, {}, {}, {1}}); }, "published_x has 0 values, published_y 1");
  check_throws<ShapeError>(
      [&] {
        r.table({"Runs", {{"a"}, {"b"}}, {{"1"}}});
      },
      "report: table 'Runs': a row has 1 cells, there are 2 columns.");
}

BOOST_AUTO_TEST_CASE(numbers_read_as_a_person_writes_them) {
  BOOST_TEST(fixed(9.020586671, 8) == "9.02058667");
  BOOST_TEST(significant(1437) == "1437");
  BOOST_TEST(percent(0.96389) == "96.39 %");
  BOOST_TEST(percent(not_a_number) == "not finite");
  BOOST_TEST(duration(0.423) == "0.42 s");
  BOOST_TEST(duration(9.999) == "10.0 s");
  BOOST_TEST(duration(59.96) == "1 min 00 s");
  BOOST_TEST(duration(184.6) == "3 min 05 s");
  BOOST_TEST(duration(7600) == "2 h 07 min");
}

BOOST_AUTO_TEST_CASE(the_machine_is_named) {
  const auto machine = this_machine();
  BOOST_TEST(!machine.cpu.empty());
  BOOST_TEST(machine.threads > 0u);
  BOOST_TEST(!machine.blas.empty());
  // As the library that multiplies here says itself, not as we guess.
  if (machine.blas.starts_with("OpenBLAS")) check_contains(machine.blas, " kernels)");
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_FIXTURE_TEST_SUITE(page, Folder)

BOOST_AUTO_TEST_CASE(a_page_shows_text_literally_and_needs_nothing_else) {
  const std::string text = "<script>alert('1 & \"2\"')</script>";
  const std::string shown = "&lt;script&gt;alert(&#39;1 &amp; &quot;2&quot;&#39;)&lt;/script&gt;";
  Report r("digits", text, text, 1, {text, 1, text});
  r.heading(text);
  r.text(text);
  r.formula(text + "\n  a  = b");
  r.row({.id = "digits.a", .label = text, .here = 1, .unit = text, .note = text});
  r.table({text, {{text, text}}, {{text}}});
  r.figure(image_grid({{arma::mat(1, 1), text}}, 1), text, text);
  r.write(path);
  const auto html = read(path / "index.html");
  BOOST_TEST(count(html, "<script") == 0u);
  BOOST_TEST(count(html, "alert('") == 0u);
  BOOST_TEST(count(html, shown) == 18u);  // each text once, the title also in the links
  check_contains(html, "\n  a  = b</pre>");
  // Self-contained: nothing is fetched.
  for (const auto* outside : {"http", "src=", "@import", "url(", "<link"})
    BOOST_TEST(count(html, outside) == 0u, outside);
}

BOOST_AUTO_TEST_CASE(rows_stand_on_the_page_published_beside_here) {
  auto r = report("digits");
  r.row({.id = "digits.5.test_accuracy",
         .label = "Test accuracy",
         .published = 0.9611,
         .here = 0.9639,
         .spread = Range{0.955, 0.967},
         .unit = "share"});
  r.row({.id = "digits.5.epochs", .here = 4711});
  r.row({.id = "digits.5.seconds", .label = "Time", .here = 1.234, .unit = "s"});
  r.write(path);
  const auto html = read(path / "index.html");
  check_contains(html, "<td>96.11&nbsp;<span class=\"unit\">%</span></td><td class=\"here\">96.39&nbsp;");
  check_contains(html, "<td>95.50 – 96.70&nbsp;");
  check_contains(html, "<td class=\"none\">–</td><td class=\"here\">1.23&nbsp;<span class=\"unit\">s</span></td>");
  BOOST_TEST(count(html, "4711") == 0u);  // no label: in the JSON alone
  BOOST_TEST(count(html, "<table") == 1u);
}

BOOST_AUTO_TEST_CASE(a_figure_may_stand_outside_of_the_comparison) {
  auto r = report("digits");
  r.row({.id = "digits.5.test_accuracy", .label = "accuracy", .published = 0.5, .here = 0.25, .on_page = false});
  r.write(path);
  BOOST_TEST(count(read(path / "index.html"), "<table") == 0u);
  check_contains(r.json(), "\"id\":\"digits.5.test_accuracy\"");
  BOOST_TEST(r.summary() == "  accuracy: 0.25, published 0.5\n");
}

BOOST_AUTO_TEST_CASE(cells_may_have_small_lines_and_remarks_are_a_list) {
  auto r = report("digits");
  r.table({"", {{"model", ""}, {"1\nlinear", ""}}, {{"accuracy\npublished", "96 %\n<95 %"}, {"none", "1\n"}}});
  r.list({"a & b", "5 % of them"});
  r.list({});
  r.write(path);
  const auto html = read(path / "index.html");
  check_contains(html, "<th scope=\"col\">1<small>linear</small></th>");
  check_contains(html, "<th scope=\"row\">accuracy<small>published</small></th><td>96 %<small>&lt;95 %</small></td>");
  check_contains(html, "<td>1<small>&nbsp;</small></td>");
  check_contains(html, "<ul class=\"remarks\">\n<li>a &amp; b</li>\n<li>5&nbsp;% of them</li>\n</ul>");
  BOOST_TEST(count(html, "<ul class=\"remarks\">") == 1u);
}

BOOST_AUTO_TEST_CASE(pipelines_of_several_runs_share_the_page) {
  auto first = report("regression", "First");
  first.text("of the first");
  first.write(path);
  report("digits", "Second").write(path);
  auto again = report("regression", "First");
  again.text("of the first, again");
  again.write(path);
  const auto html = read(path / "index.html");
  BOOST_TEST(count(html, "<h2>First</h2>") == 1u);
  BOOST_TEST(count(html, "<h2>Second</h2>") == 1u);
  BOOST_TEST(html.find("<h2>First</h2>") < html.find("<h2>Second</h2>"));
  BOOST_TEST(count(html, "<p>of the first</p>") == 0u);
  BOOST_TEST(count(html, "<p>of the first, again</p>") == 1u);
  check_contains(html, "<li><a href=\"#digits\">Second</a></li>");
  BOOST_TEST(fs::exists(path / "digits.json"));
  // Written twice the same, the page stays the same.
  const auto sections = read_sections(path);
  BOOST_REQUIRE(sections.size() == 2u);
  BOOST_TEST(make_page(sections) == html);
}

BOOST_AUTO_TEST_CASE(a_report_grows_while_it_is_written_again) {
  auto r = report("digits");
  r.row({.id = "digits.1.epochs", .label = "Model 1", .here = 1});
  r.write(path);
  r.row({.id = "digits.2.epochs", .label = "Model 2", .here = 2});
  r.write(path);
  const auto html = read(path / "index.html");
  BOOST_TEST(count(html, "Model 1") == 1u);
  BOOST_TEST(count(html, "Model 2") == 1u);
  BOOST_TEST(count(html, "<table") == 1u);
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_FIXTURE_TEST_SUITE(folders, Folder)

BOOST_AUTO_TEST_CASE(a_folder_is_made_and_left_empty) {
  const auto out = path / "a" / "b";
  prepare_output(out);
  BOOST_TEST(fs::is_directory(out));
  BOOST_TEST(fs::is_empty(out));
  prepare_output(out);
}

BOOST_AUTO_TEST_CASE(a_folder_that_cannot_hold_a_report_is_refused_with_the_reason) {
  const auto file = path / "file";
  write(file, "mine");
  check_throws([&] { prepare_output(file); },
               "--out " + file.string() + ": this is a file, not a folder. Name another folder.");
  check_throws(
      [&] { prepare_output(file / "sub"); },
      "--out " + (file / "sub").string() + ": the folder cannot be made (Not a directory). Name another folder.");
  check_throws([] { prepare_output("/proc/self"); }, "--out /proc/self: nothing can be written there (");
  check_throws([] { prepare_output(""); }, "--out: the folder's name is empty.");
  BOOST_TEST(read(file) == "mine");
}

BOOST_AUTO_TEST_CASE(a_page_of_somebody_else_is_not_overwritten) {
  write(path / "index.html", "<h1>My home page</h1>");
  const auto text =
      "--out " + path.string() + ": it holds an index.html that is not a report of the zoo. Name another folder.";
  check_throws([&] { prepare_output(path); }, text);
  check_throws([&] { report("digits").write(path); }, text);
  BOOST_TEST(read(path / "index.html") == "<h1>My home page</h1>");
  BOOST_TEST(!fs::exists(path / "digits.json"));
}

BOOST_AUTO_TEST_CASE(a_write_that_fails_changes_nothing) {
  auto r = report("digits");
  r.write(path);
  const auto page = read(path / "index.html"), json = read(path / "digits.json");
  r.text("more");
  r.row({.id = "digits.a", .here = 1});

  // The system refuses files of more than 1000 bytes: the JSON fits, the page does not.
  std::signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  const rlimit small{1000, before.rlim_max};
  setrlimit(RLIMIT_FSIZE, &small);
  std::string message;
  try {
    r.write(path);
  } catch (const OptionError& error) {
    message = error.what();
  }
  setrlimit(RLIMIT_FSIZE, &before);
  BOOST_TEST(message ==
             (path / "index.html").string() +
                 " cannot be written (File too large); what was there is unchanged. Name another folder with --out.");
  BOOST_TEST(read(path / "index.html") == page);
  BOOST_TEST(read(path / "digits.json") == json);
  BOOST_TEST(std::distance(fs::directory_iterator(path), {}) == 2);  // no temporary file is left
}

BOOST_AUTO_TEST_CASE(a_folder_in_a_file_s_place_is_named) {
  fs::create_directories(path / "digits.json");
  check_throws([&] { report("digits").write(path); },
               (path / "digits.json").string() + " cannot be written (Is a directory); what was there is unchanged.");
  BOOST_TEST(!fs::exists(path / "index.html"));
}

BOOST_AUTO_TEST_CASE(a_missing_folder_is_named) {
  check_throws([&] { report("digits").write(path / "none"); },
               (path / "none" / "digits.json").string() + " cannot be written (No such file or directory)");
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(plots)

BOOST_AUTO_TEST_CASE(a_plot_has_its_axes_curves_and_legend_in_the_page_s_colours) {
  if (!gnuplot_is_there()) return;
  Plot plot{
      "time <s>", "it's \"loss\"", {{"a & b", {1, 2, 3}, {1, 10, 100}}, {"seen", {1, 2}, {5, 6}, Mark::rings, 4}}};
  plot.log_y = true;
  const auto html = draw(plot).html;
  BOOST_TEST(count(html, "<svg class=\"on-page\" viewBox=\"0 0 736 420\"") == 1u);
  BOOST_TEST(count(html, "<svg class=\"on-phone\" viewBox=\"0 0 360 320\"") == 1u);
  BOOST_TEST(count(html, "time &lt;s>") == 2u);
  BOOST_TEST(count(html, "<text>it's \"loss\"</text>") == 2u);
  BOOST_TEST(count(html, "</svg>a &amp; b</li>") == 1u);
  BOOST_TEST(count(html, "<text>100</text>") == 2u);  // the logarithmic axis ends at 10^2
  BOOST_TEST(count(html, "var(--c1)") == 3u);         // the legend and two sizes
  BOOST_TEST(count(html, "stroke='var(--c4)'") == 5u);
  BOOST_TEST(count(html, "<circle") == 5u);
  for (const auto* gnuplots : {"rgb(", "black", "white", "#", " id=", "<title", "font-family", "<use", "http"})
    BOOST_TEST(count(html, gnuplots) == 0u, gnuplots);
}

BOOST_AUTO_TEST_CASE(points_that_are_not_finite_are_left_out) {
  if (!gnuplot_is_there()) return;
  const auto html = draw(Plot{"x", "y", {{"", {0, 1, 2, 3, 4}, {1, not_a_number, 3, infinity, 5}, Mark::dots}}}).html;
  BOOST_TEST(count(html, "<circle") == 2 * 3u);
  BOOST_TEST(count(html, "legend") == 0u);
  const auto empty = draw(Plot{"x", "y", {{"c", {1, 2}, {not_a_number, not_a_number}}}}).html;
  BOOST_TEST(empty == "<p class=\"left-out\">A plot is left out here: there is no finite point to draw.</p>\n");
  Plot negative{"x", "y", {{"c", {1, 2}, {-1, 0}}}};
  negative.log_y = true;
  check_contains(draw(negative).html, "there is no finite point to draw");
}

BOOST_AUTO_TEST_CASE(bars_stand_beside_each_other_with_the_published_across) {
  if (!gnuplot_is_there()) return;
  BarChart chart{"model",
                 "accuracy, share",
                 {"one", "t'wo"},
                 {{"train", {0.9, not_a_number}}, {"test", {0.8, 0.7}}},
                 Range{0.5, 1}};
  const auto bars = [&] { return count(draw(chart).html, "<polygon"); };
  BOOST_TEST(bars() == 2 * 3u);
  BOOST_TEST(count(draw(chart).html, "<text>t'wo</text>") == 2u);
  BOOST_TEST(count(draw(chart).html, "published") == 0u);
  chart.bars[1].published = {0.85, 0.75};
  chart.bars[1].spread = {{0.7, 0.9}, {0.6, 0.8}};
  BOOST_TEST(count(draw(chart).html, "</svg>published</li>") == 1u);
  BOOST_TEST(bars() == 2 * 3u);
}

BOOST_AUTO_TEST_CASE(values_that_do_not_fit_are_named) {
  check_throws<ShapeError>(
      [] {
        draw(Plot{"x", "y", {{"loss", {1, 2}, {1}}}});
      },
      "plot: the curve 'loss' has 1 values, its x 2; there must be as many.");
  check_throws<ShapeError>(
      [] {
        draw(BarChart{"", "", {"a", "b"}, {{"train", {1}}}, {}});
      },
      "plot: 'train' has 1 values, the groups are 2; there must be as many.");
  check_throws<ShapeError>(
      [] {
        draw(BarChart{"", "", {"a"}, {{"train", {1}, {1, 2}}}, {}});
      },
      "plot: 'train' published has 2 values");
}

BOOST_AUTO_TEST_CASE(without_gnuplot_the_page_says_what_is_left_out_and_why) {
  const char* path = std::getenv("PATH");
  const std::string before = path ? path : "";
  setenv("PATH", "/nowhere", 1);
  const auto html = draw(Plot{"x", "y", {{"c", {0, 1}, {0, 1}}}}).html;
  setenv("PATH", before.c_str(), 1);
  BOOST_TEST(
      html ==
      "<p class=\"left-out\">A plot is left out here: gnuplot is not installed (Debian package gnuplot-nox).</p>\n");
}

BOOST_AUTO_TEST_CASE(an_image_is_drawn_in_runs_of_equal_pixels) {
  const auto html = image_grid({{arma::mat{{0, 0, 16}, {16, 16, 8}}, "7", Tone::bad}, {arma::mat(1, 1), "8"}}, 6).html;
  check_contains(html, "style=\"--columns: 6\"");
  check_contains(html, "<div class=\"tile bad\"><svg viewBox=\"0 0 3 2\"");
  check_contains(html, "<path fill-opacity=\"1\" d=\"M2 0h1v1h-1zM0 1h2v1h-2z\"/></svg>7</div>");
  check_contains(html, "<path fill-opacity=\"0.5\" d=\"M2 1h1v1h-1z\"/>");
  check_contains(html, "<div class=\"tile\"><svg viewBox=\"0 0 1 1\"");
  BOOST_TEST(count(html, "<path") == 2u);
}

BOOST_AUTO_TEST_CASE(pixels_beyond_the_range_or_without_a_value_are_drawn_as_its_ends) {
  const auto html = image_grid({{arma::mat{{-5, 5, not_a_number, infinity, 0.5}}, ""}}, 1, Range{0, 1}).html;
  check_contains(
      html, "<path fill-opacity=\"0.5\" d=\"M4 0h1v1h-1z\"/><path fill-opacity=\"1\" d=\"M1 0h1v1h-1zM3 0h1v1h-1z\"/>");
  BOOST_TEST(count(image_grid({{arma::mat(8, 8, arma::fill::ones), ""}}, 1).html, "<path") == 0u);
}

BOOST_AUTO_TEST_CASE(values_with_a_sign_have_a_colour_each_and_one_scale) {
  const auto html =
      signed_image_grid({{arma::mat{{-2, 0, 1}}, "a\nb & c"}, {arma::mat(1, 1, arma::fill::value(4.0)), ""}}, 2).html;
  check_contains(html, "fill=\"var(--c1)\"");
  check_contains(html,
                 "<path fill=\"var(--c2)\" fill-opacity=\"0.5\" d=\"M0 0h1v1h-1z\"/>"
                 "<path fill-opacity=\"0.25\" d=\"M2 0h1v1h-1z\"/>");
  check_contains(html, "<path fill-opacity=\"1\" d=\"M0 0h1v1h-1z\"/>");
  check_contains(html, "</svg>a<small>b &amp; c</small></div>");
}

BOOST_AUTO_TEST_CASE(a_confusion_matrix_tells_right_from_wrong) {
  const auto html = confusion_matrix(arma::umat{{8, 2}, {0, 7}}, {"cat", "d<g"}).html;
  for (const auto* count_shown : {">8</text>", ">2</text>", ">7</text>"}) BOOST_TEST(count(html, count_shown) == 1u);
  BOOST_TEST(count(html, ">0</text>") == 0u);
  BOOST_TEST(count(html, ">d&lt;g</text>") == 2u);
  BOOST_TEST(count(html, "fill=\"var(--c1)\"") == 2u);  // right
  BOOST_TEST(count(html, "fill=\"var(--c2)\"") == 1u);  // wrong
  BOOST_TEST(count(html, "nan") == 0u);
  BOOST_TEST(count(confusion_matrix(arma::umat(2, 2), {"a", "b"}).html, "nan") == 0u);
  check_throws<ShapeError>(
      [] {
        confusion_matrix(arma::umat(2, 3), {"a", "b"});
      },
      "confusion_matrix: the counts are 2x3, there are 2 names; it must be square");
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(progress)

BOOST_AUTO_TEST_CASE(plain_lines_come_each_nth_epoch_and_after_five_seconds) {
  std::ostringstream out;
  double now = 100;
  {
    Progress lines("model 5", 100000, {.every = 5000, .out = &out, .clock = [&] { return now; }});
    for (long epoch = 0; epoch <= 5000; ++epoch, now += 0.001) lines.update(epoch, 2.38831);
    now = 110.5;
    lines.update(6249, 0.404891);
    lines.update(6250, 0.404891);
    lines.finish("stopped after 6251 epochs");
  }
  BOOST_TEST(out.str() ==
             "model 5: epoch 0/100000, loss 2.3883, 0.00 s\n"
             "model 5: epoch 5000/100000, loss 2.3883, 5.00 s, at most 1 min 35 s left\n"
             "model 5: epoch 6249/100000, loss 0.40489, 10.5 s, at most 2 min 38 s left\n"
             "model 5: stopped after 6251 epochs\n");
}

BOOST_AUTO_TEST_CASE(a_terminal_has_one_line_rewritten_ten_times_a_second) {
  std::ostringstream out;
  double now = 0;
  {
    Progress line("m", 1000, {.out = &out, .terminal = true, .clock = [&] { return now; }});
    for (long epoch = 0; epoch < 1000; ++epoch, now += 0.001) line.update(epoch, 1);
  }
  const auto text = out.str();
  BOOST_TEST(count(text, "\r\x1b[K") >= 9u);
  BOOST_TEST(count(text, "\r\x1b[K") <= 11u);
  BOOST_TEST(count(text, "\n") == 1u);  // so that what follows, such as an error, has a line of its own
  BOOST_TEST(text.ends_with("\n"));
}

BOOST_AUTO_TEST_CASE(runs_side_by_side_share_the_terminal_s_line) {
  std::ostringstream out;
  double now = 0;
  const auto clock = [&] { return now; };
  {
    Progress a("a", 10, {.out = &out, .terminal = true, .clock = clock});
    Progress b("b", 10, {.out = &out, .terminal = true, .clock = clock});
    a.update(1, 0.5);
    b.update(2, 0.25);
    a.finish("done");
    now = 1;
    b.update(3, 0.25);
  }
  const std::string clear = "\r\x1b[K";
  BOOST_TEST(out.str() == clear + "a: epoch 1, loss 0.50000" + clear +
                              "a: epoch 1, loss 0.50000 | b: epoch 2, loss 0.25000" + clear + "a: done\n" + clear +
                              "b: epoch 3, loss 0.25000\n");
}

BOOST_AUTO_TEST_CASE(a_resumed_run_reckons_the_time_left_from_its_own_epochs) {
  std::ostringstream out;
  double now = 0;
  Progress progress("m", 100, {.every = 10, .first = 40, .out = &out, .clock = [&] { return now; }});
  now = 2;
  progress.update(50, 1);  // 11 epochs in 2 s, 49 to go
  BOOST_TEST(out.str() == "m: epoch 50/100, loss 1.0000, 2.00 s, at most 8.91 s left\n");
}

BOOST_AUTO_TEST_CASE(the_last_line_takes_the_rewritten_one_s_place) {
  std::ostringstream out;
  {
    Progress line("m", 10, {.out = &out, .terminal = true, .clock = [] { return 0.0; }});
    line.update(0, 0.5);
    line.finish("done");
  }
  BOOST_TEST(out.str() == "\r\x1b[Km: epoch 0/10, loss 0.50000, 0.00 s\r\x1b[Km: done\n");
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_CASE(the_summary_shows_published_figures_beside_those_here) {
  Report demo = report("demo");
  demo.row({.id = "demo.slope", .label = "slope", .published = 63.18605572, .here = 63.186055720});
  demo.row({.id = "demo.accuracy", .label = "accuracy", .published = 0.9611, .here = 0.9639, .unit = "share"});
  demo.row({.id = "demo.other", .label = "not published", .here = 1});
  BOOST_TEST(demo.summary() == "  slope: 63.18605572, published 63.18605572\n  accuracy: 96.39 %, published 96.11 %\n");
}
