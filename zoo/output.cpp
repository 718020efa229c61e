#include "zoo/output.hpp"

#include <cerrno>
#include <cstdlib>
#include <system_error>

#include <fmt/format.h>
#include <unistd.h>

#include <armagrad/autodiff/error.hpp>
#include <armagrad/autodiff/file.hpp>

#include "zoo/page.hpp"

namespace armagrad::zoo {
namespace fs = std::filesystem;
namespace {

std::string reason(int error) { return std::generic_category().message(error); }

}  // namespace

void prepare_output(const fs::path& folder) {
  const auto refuse = [&](const std::string& why) {
    throw OptionError(fmt::format("--out {}: {}. Name another folder.", folder.string(), why));
  };
  if (folder.empty()) throw OptionError("--out: the folder's name is empty.");

  std::error_code error;
  const auto status = fs::status(folder, error);
  if (fs::exists(status) && !fs::is_directory(status)) refuse("this is a file, not a folder");
  fs::create_directories(folder, error);
  if (error) refuse(fmt::format("the folder cannot be made ({})", error.message()));

  auto probe = (folder / ".armagrad.XXXXXX").string();
  const int descriptor = mkstemp(probe.data());
  if (descriptor < 0) refuse(fmt::format("nothing can be written there ({})", reason(errno)));
  ::close(descriptor);
  ::unlink(probe.c_str());
  read_sections(folder);
}

void write_files(const fs::path& folder, const std::vector<OutputFile>& files) {
  try {
    std::vector<detail::StagedFile> staged;
    staged.reserve(files.size());
    for (const auto& file : files) {
      staged.emplace_back(folder / file.name);
      staged.back().write(file.content.data(), file.content.size());
      staged.back().finish();
    }
    for (auto& file : staged) file.publish();
  } catch (const DataError& error) {
    throw OptionError(fmt::format("{} Name another folder with --out.", error.what()));
  }
}

}  // namespace armagrad::zoo
