#include "zoo/report.hpp"

#include <algorithm>
#include <cmath>
#include <ctime>
#include <utility>

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <armagrad/autodiff/error.hpp>

#include "zoo/output.hpp"
#include "zoo/page.hpp"

namespace armagrad::zoo {
namespace {

using Json = nlohmann::ordered_json;

bool is_name(const std::string& name) {
  return !name.empty() && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
  });
}

Json finite(double value) { return std::isfinite(value) ? Json(value) : Json(); }

Json finite(const std::vector<double>& values) {
  auto out = Json::array();
  for (const double value : values) out.push_back(finite(value));
  return out;
}

std::string dump(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

// One value per line: readable, and changes show as such in a diff.
std::string lines(const std::vector<std::string>& values) {
  std::string out;
  for (const auto& value : values) out += (out.empty() ? "\n  " : ",\n  ") + value;
  return "[" + out + (values.empty() ? "]" : "\n]");
}

std::string number(const Row& row, double value) {
  const bool share = row.unit == "share";
  if (share) value *= 100;
  if (row.decimals >= 0) return fixed(value, row.decimals);
  return share || row.unit == "s" ? fixed(value, 2) : significant(value);
}

std::string with_unit(const Row& row, const std::string& numbers) {
  const auto unit = row.unit == "share" ? "%" : row.unit;
  return escape(numbers) + (unit.empty() ? "" : fmt::format("&nbsp;<span class=\"unit\">{}</span>", escape(unit)));
}

// Running text: a number and its % stay on one line.
std::string prose(const std::string& text) {
  std::string html = escape(text);
  for (auto at = html.find(" %"); at != std::string::npos; at = html.find(" %", at)) html.replace(at, 1, "&nbsp;");
  return html;
}

// What follows a line break stands below, small.
std::string cell_html(const std::string& text) {
  std::string html;
  for (std::size_t at = 0; at <= text.size();) {
    const auto end = std::min(text.find('\n', at), text.size());
    const auto line = escape(text.substr(at, end - at));
    html += at == 0 ? line : fmt::format("<small>{}</small>", line.empty() ? "&nbsp;" : line);
    at = end + 1;
  }
  return html;
}

}  // namespace

Report::Report(std::string pipeline, std::string title, std::string data, std::uint64_t seed, Machine machine)
    : pipeline_(std::move(pipeline)),
      title_(std::move(title)),
      data_(std::move(data)),
      seed_(seed),
      machine_(std::move(machine)) {
  if (!is_name(pipeline_))
    throw ValueError(
        fmt::format("report: '{}' is not a pipeline's name; use lower case letters, digits and '_'.", pipeline_));
}

void Report::require_new_id(const std::string& id) {
  bool fits = id.starts_with(pipeline_ + ".");
  for (std::size_t at = 0; fits && at <= id.size();) {
    const auto end = std::min(id.find('.', at), id.size());
    fits = is_name(id.substr(at, end - at));
    at = end + 1;
  }
  if (!fits) {
    throw ValueError(fmt::format(
        "report: the id '{}' is not of the form '{}.part.part' (lower case letters, digits, '_').", id, pipeline_));
  }
  if (!ids_.insert(id).second) throw ValueError(fmt::format("report: the id '{}' is there already.", id));
}

void Report::row(const Row& row) {
  require_new_id(row.id);
  rows_.push_back(row);
  if (!row.label.empty() && row.on_page) open_rows_.push_back(row);
}

void Report::series(Series series) {
  const auto require_equal = [&](const char* x, std::size_t nx, const char* y, std::size_t ny) {
    if (nx != ny)
      throw ShapeError(
          fmt::format("report: series '{}': {} has {} values, {} {}; there must be as many.", series.id, x, nx, y, ny));
  };
  require_equal("x", series.x.size(), "y", series.y.size());
  require_equal("published_x", series.published_x.size(), "published_y", series.published_y.size());
  require_new_id(series.id);
  series_.push_back(std::move(series));
}

void Report::begin_block() {
  body_ += comparison();
  open_rows_.clear();
}

void Report::heading(const std::string& text) {
  begin_block();
  body_ += fmt::format("<h3>{}</h3>\n", escape(text));
}

void Report::text(const std::string& paragraph) {
  begin_block();
  body_ += fmt::format("<p>{}</p>\n", prose(paragraph));
}

void Report::list(const std::vector<std::string>& items) {
  begin_block();
  if (items.empty()) return;
  std::string html;
  for (const auto& item : items) html += fmt::format("<li>{}</li>\n", prose(item));
  body_ += fmt::format("<ul class=\"remarks\">\n{}</ul>\n", html);
}

void Report::formula(const std::string& lines) {
  begin_block();
  body_ += fmt::format("<pre tabindex=\"0\">{}</pre>\n", escape(lines));
}

void Report::figure(const Picture& picture, const std::string& caption, const std::string& alt) {
  begin_block();
  body_ += fmt::format("<figure aria-label=\"{}\">\n{}<figcaption>{}</figcaption>\n</figure>\n", escape(alt),
                       picture.html, escape(caption));
}

void Report::table(const Table& table) {
  for (const auto& cells : table.rows) {
    if (cells.size() != table.columns.size())
      throw ShapeError(fmt::format("report: table '{}': a row has {} cells, there are {} columns.", table.caption,
                                   cells.size(), table.columns.size()));
  }
  begin_block();
  const auto& columns = table.columns;
  const auto kind = [&](std::size_t i) { return columns[i].text ? " class=\"text\"" : ""; };
  std::string groups, names, rows;
  for (std::size_t i = 0; i < columns.size();) {
    std::size_t end = i + 1;
    while (end < columns.size() && !columns[i].group.empty() && columns[end].group == columns[i].group) ++end;
    groups += columns[i].group.empty()
                  ? "<td></td>"
                  : fmt::format("<th class=\"group\" scope=\"colgroup\" colspan=\"{}\"><span>{}</span></th>", end - i,
                                escape(columns[i].group));
    i = end;
  }
  for (std::size_t i = 0; i < columns.size(); ++i)
    names += fmt::format("<th scope=\"col\"{}>{}</th>", kind(i), cell_html(columns[i].name));
  for (const auto& cells : table.rows) {
    rows += "<tr>";
    for (std::size_t i = 0; i < cells.size(); ++i)
      rows += i ? fmt::format("<td{}>{}</td>", kind(i), cell_html(cells[i]))
                : fmt::format("<th scope=\"row\">{}</th>", cell_html(cells[i]));
    rows += "</tr>\n";
  }
  const bool grouped = std::any_of(columns.begin(), columns.end(), [](const Column& c) { return !c.group.empty(); });
  body_ += fmt::format(
      "<div class=\"scroll wide\" "
      "tabindex=\"0\"><table>{}\n<thead>{}<tr>{}</tr></thead>\n<tbody>\n{}</tbody></table></div>\n",
      table.caption.empty() ? "" : fmt::format("<caption>{}</caption>", escape(table.caption)),
      grouped ? "<tr>" + groups + "</tr>\n" : "", names, rows);
}

std::string Report::comparison() const {
  if (open_rows_.empty()) return "";
  const auto any = [&](auto has) { return std::any_of(open_rows_.begin(), open_rows_.end(), has); };
  const bool published = any([](const Row& row) { return row.published.has_value(); });
  const bool spread = any([](const Row& row) { return row.spread.has_value(); });
  std::string rows;
  const auto cell = [&](const char* kind, const std::string& value) {
    rows += value.empty() ? "<td class=\"none\">–</td>" : fmt::format("<td{}>{}</td>", kind, value);
  };
  for (const auto& row : open_rows_) {
    rows += fmt::format("<tr title=\"{}\"><th scope=\"row\">{}{}</th>", row.id, escape(row.label),
                        row.note.empty() ? "" : fmt::format("<small>{}</small>", escape(row.note)));
    if (published) cell("", row.published ? with_unit(row, number(row, *row.published)) : "");
    cell(" class=\"here\"", with_unit(row, number(row, row.here)));
    if (spread) {
      cell("", row.spread ? with_unit(row, number(row, row.spread->low) + " – " + number(row, row.spread->high)) : "");
    }
    rows += "</tr>\n";
  }
  return fmt::format(
      "<div class=\"scroll\" tabindex=\"0\"><table class=\"compare\" style=\"--numbers: {}\">\n"
      "<thead><tr><td></td>{}<th scope=\"col\">here</th>{}</tr></thead>\n"
      "<tbody>\n{}</tbody></table></div>\n",
      1 + published + spread, published ? "<th scope=\"col\">published</th>" : "",
      spread ? "<th scope=\"col\">range over seeds</th>" : "", rows);
}

std::string Report::summary() const {
  std::string out;
  for (const auto& row : rows_) {
    if (!row.published) continue;
    const auto shown = [&row](double value) {
      return number(row, value) + (row.unit == "share" ? " %" : row.unit.empty() ? "" : " " + row.unit);
    };
    out += fmt::format("  {}: {}, published {}\n", row.label.empty() ? row.id : row.label, shown(row.here),
                       shown(*row.published));
  }
  return out;
}

std::string Report::json() const {
  std::vector<std::string> rows, series;
  for (const auto& row : rows_) {
    rows.push_back(dump({{"id", row.id},
                         {"published", row.published ? finite(*row.published) : Json()},
                         {"here", finite(row.here)},
                         {"spread", row.spread ? finite(std::vector{row.spread->low, row.spread->high}) : Json()},
                         {"unit", row.unit},
                         {"note", row.note}}));
  }
  for (const auto& s : series_) {
    series.push_back(dump({{"id", s.id},
                           {"x", finite(s.x)},
                           {"y", finite(s.y)},
                           {"published_x", finite(s.published_x)},
                           {"published_y", finite(s.published_y)}}));
  }
  const Json machine{{"cpu", machine_.cpu}, {"threads", machine_.threads}, {"blas", machine_.blas}};
  return fmt::format(
      "{{\"pipeline\": {},\n\"data\": {},\n\"machine\": {},\n\"seed\": {},\n\"rows\": {},\n\"series\": {}}}\n",
      dump(pipeline_), dump(data_), dump(machine), seed_, lines(rows), lines(series));
}

void Report::write(const std::filesystem::path& folder) const {
  const auto facts = fmt::format(
      "<dl class=\"facts\">\n<dt>Data</dt><dd>{}</dd>\n<dt>Seed</dt><dd>{}</dd>\n<dt>Machine</dt><dd>{}; {} {}; "
      "{}</dd>\n"
      "<dt>Written</dt><dd>{:%Y-%m-%d %H:%M}</dd>\n<dt>All figures</dt><dd><a "
      "href=\"{}.json\">{}.json</a></dd>\n</dl>\n",
      escape(data_), seed_, escape(machine_.cpu), machine_.threads, machine_.threads == 1 ? "thread" : "threads",
      escape(machine_.blas), fmt::localtime(std::time(nullptr)), pipeline_, pipeline_);
  const Section mine{pipeline_, fmt::format("<section id=\"{}\">\n<h2>{}</h2>\n{}{}{}</section>", pipeline_,
                                            escape(title_), facts, body_, comparison())};
  auto sections = read_sections(folder);
  const auto old =
      std::find_if(sections.begin(), sections.end(), [&](const auto& s) { return s.pipeline == pipeline_; });
  if (old == sections.end()) {
    sections.push_back(mine);
  } else {
    *old = mine;
  }
  write_files(folder, {{pipeline_ + ".json", json()}, {"index.html", make_page(sections)}});
}

}  // namespace armagrad::zoo
