#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <memory>
#include <system_error>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <armagrad/autodiff/error.hpp>
#include <armagrad/autodiff/file.hpp>

namespace armagrad::detail {
namespace {

std::string reason(int error) { return std::generic_category().message(error); }

std::string folder_of(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  return slash == std::string::npos ? "" : path.substr(0, slash + 1);
}

}  // namespace

std::string read_file(const std::string& path) {
  const auto fail = [&](int error) { throw DataError(fmt::format("{} cannot be read ({}).", path, reason(error))); };
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rbe"), std::fclose);
  if (file == nullptr) fail(errno);
  struct stat status {};
  if (fstat(fileno(file.get()), &status) != 0) fail(errno);
  if (S_ISDIR(status.st_mode)) fail(EISDIR);
  std::string bytes;
  std::size_t filled = 0;
  do {
    // The size is only a first guess: pipes have none.
    bytes.resize(std::max(filled + 65536, static_cast<std::size_t>(status.st_size) + 1));
    filled += std::fread(bytes.data() + filled, 1, bytes.size() - filled, file.get());
  } while (filled == bytes.size());
  if (std::ferror(file.get()) != 0) fail(errno);
  bytes.resize(filled);
  return bytes;
}

StagedFile::StagedFile(const std::string& path)
    : path_(path),
      temporary_(fmt::format("{}.{}.{}", folder_of(path), path.substr(folder_of(path).size()), getpid())),
      descriptor_(::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0666)) {
  if (descriptor_ < 0) fail(errno);
}

StagedFile::StagedFile(StagedFile&& other) noexcept
    : path_(std::move(other.path_)),
      temporary_(std::exchange(other.temporary_, {})),
      descriptor_(std::exchange(other.descriptor_, -1)) {}

StagedFile::~StagedFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void StagedFile::write(const void* data, std::size_t bytes) {
  const char* next = static_cast<const char*>(data);
  while (bytes > 0) {
    const auto n = ::write(descriptor_, next, bytes);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail(errno);
    next += n;
    bytes -= static_cast<std::size_t>(n);
  }
}

void StagedFile::finish() {
  if (descriptor_ < 0) return;
  if (::fsync(descriptor_) != 0 && errno != EINVAL) fail(errno);  // EINVAL: the file system has no fsync
  if (::close(std::exchange(descriptor_, -1)) != 0) fail(errno);
  struct stat status {};
  if (::stat(path_.c_str(), &status) == 0 && S_ISDIR(status.st_mode)) fail(EISDIR);
}

void StagedFile::publish() {
  finish();
  if (std::rename(temporary_.c_str(), path_.c_str()) != 0) fail(errno);
  temporary_.clear();
  // The new name, too, should outlive a power failure; where it cannot be had the file is whole all the same.
  const std::string folder = folder_of(path_);
  const int descriptor = ::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return;
  ::fsync(descriptor);
  ::close(descriptor);
}

void StagedFile::fail(int error) const {
  throw DataError(fmt::format("{} cannot be written ({}); what was there is unchanged.", path_, reason(error)));
}

}  // namespace armagrad::detail
