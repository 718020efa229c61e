#include "zoo/output.hpp"

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <armagrad/autodiff/error.hpp>

#include "zoo/page.hpp"

namespace armagrad::zoo {
namespace fs = std::filesystem;
namespace {

std::string reason(int error) { return std::generic_category().message(error); }

// A file under a temporary name beside its own, removed unless it was given its own name.
class Staged {
 public:
  Staged(const fs::path& folder, const std::string& name)
      : target_(folder / name),
        temporary_((folder / fmt::format(".{}.{}", name, getpid())).string()),
        descriptor_(::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0666)) {
    if (descriptor_ < 0) fail(errno);
  }
  Staged(Staged&& other) noexcept
      : target_(std::move(other.target_)),
        temporary_(std::exchange(other.temporary_, {})),
        descriptor_(std::exchange(other.descriptor_, -1)) {}
  Staged(const Staged&) = delete;
  Staged& operator=(const Staged&) = delete;
  Staged& operator=(Staged&&) = delete;
  ~Staged() {
    if (descriptor_ >= 0) ::close(descriptor_);
    if (!temporary_.empty()) ::unlink(temporary_.c_str());
  }

  void write(const std::string& content) {
    for (std::size_t done = 0; done < content.size();) {
      const auto n = ::write(descriptor_, content.data() + done, content.size() - done);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) fail(errno);
      done += static_cast<std::size_t>(n);
    }
    if (::close(std::exchange(descriptor_, -1)) != 0) fail(errno);
  }

  void publish() {
    if (std::rename(temporary_.c_str(), target_.c_str()) != 0) fail(errno);
    temporary_.clear();
  }

  const fs::path& target() const { return target_; }

  [[noreturn]] void fail(int error) const {
    throw OptionError(
        fmt::format("{} cannot be written ({}); what was there is unchanged. Name another folder with --out.",
                    target_.string(), reason(error)));
  }

 private:
  fs::path target_;
  std::string temporary_;
  int descriptor_;
};

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
  std::vector<Staged> staged;
  staged.reserve(files.size());
  for (const auto& file : files) {
    staged.emplace_back(folder, file.name);
    staged.back().write(file.content);
  }
  // Renaming onto a folder is what could still fail, after the first file has got its name.
  for (const auto& file : staged) {
    if (fs::is_directory(file.target())) file.fail(EISDIR);
  }
  for (auto& file : staged) file.publish();
}

}  // namespace armagrad::zoo
