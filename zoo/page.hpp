// index.html: one self-contained page with a section per pipeline. The page itself is the store: a pipeline that
// writes its section keeps those of the others that stand there.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace armagrad::zoo {

/// `text` as HTML shows it literally, in element content and in quoted attributes.
std::string escape(const std::string& text);

/// What one pipeline has on the page.
struct Section {
  std::string pipeline{};  ///< lower case, also the name of its JSON file
  std::string html{};      ///< begins with the heading, <h2>...</h2>
};

/// The sections of the folder's index.html; none where there is no such file.
/// @throws OptionError when index.html is there but is not a report of the zoo.
std::vector<Section> read_sections(const std::filesystem::path& folder);

struct Cover {
  std::string title = "armagrad zoo";
  std::string lead =
      "Published results, computed again with armagrad. Each number stands beside the one its authors printed.";
};

/// The whole page. Only one with the zoo's title is a report of the zoo.
std::string make_page(const std::vector<Section>& sections, const Cover& cover = {});

}  // namespace armagrad::zoo
