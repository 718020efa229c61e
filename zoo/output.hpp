// The folder named by --out: checked before any work, and written so that a run that fails overwrites nothing.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace armagrad::zoo {

/// Makes the folder where it is missing and proves that a report can be written there. Call it before any work.
/// @throws OptionError, naming the folder and the reason, when it is a file, cannot be made or written, or holds an
///   index.html that is not a report of the zoo.
void prepare_output(const std::filesystem::path& folder);

struct OutputFile {
  std::string name{};
  std::string content{};
};

/// Writes the files into the folder under temporary names, then renames them to their own. When one cannot be
/// written, those that stood there are untouched and the temporary ones are gone.
/// @throws OptionError, naming the file and the reason.
void write_files(const std::filesystem::path& folder, const std::vector<OutputFile>& files);

}  // namespace armagrad::zoo
