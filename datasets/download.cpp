#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <exception>
#include <memory>
#include <system_error>

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/file.h>
#include <unistd.h>

#include <armagrad/autodiff/error.hpp>
#include <armagrad/autodiff/file.hpp>
#include <armagrad/datasets/download.hpp>

#ifdef ARMAGRAD_HAS_OPENSSL
#include <openssl/evp.h>
#endif
#ifdef ARMAGRAD_HAS_CURL
#include <curl/curl.h>
#endif

namespace armagrad::data::detail {

std::string sha256([[maybe_unused]] std::string_view bytes) {
  std::string out;
#ifdef ARMAGRAD_HAS_OPENSSL
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned length = 0;
  if (EVP_Digest(bytes.data(), bytes.size(), digest.data(), &length, EVP_sha256(), nullptr) != 1)
    throw DataError("SHA-256: OpenSSL cannot compute it.");
  for (unsigned i = 0; i < length; ++i) out += fmt::format("{:02x}", digest[i]);
#endif
  return out;
}

std::string no_download() {
  std::string missing;
#ifndef ARMAGRAD_HAS_CURL
  missing += " libcurl";
#endif
#ifndef ARMAGRAD_HAS_OPENSSL
  missing += " OpenSSL";
#endif
  return missing.empty() ? "" : "this build of armagrad cannot download, it lacks" + missing;
}

#ifdef ARMAGRAD_HAS_CURL
namespace {

/// More than any file of images takes, so that a server cannot fill the disk.
constexpr std::uint64_t size_limit = std::uint64_t{1} << 30;

/// PATH.part, locked against other programs while this one writes to it.
class Part {
 public:
  explicit Part(const std::string& path)
      : path_(path + ".part"), descriptor_(::open(path_.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0666)) {
    if (descriptor_ < 0) fail(errno);
    while (::flock(descriptor_, LOCK_EX) != 0 && errno == EINTR) {
    }
  }
  Part(const Part&) = delete;
  Part& operator=(const Part&) = delete;
  ~Part() { ::close(descriptor_); }

  std::uint64_t size() const { return static_cast<std::uint64_t>(::lseek(descriptor_, 0, SEEK_END)); }
  void clear() {
    if (::ftruncate(descriptor_, 0) != 0) fail(errno);
  }
  void append(const char* data, std::size_t bytes) {
    ::lseek(descriptor_, 0, SEEK_END);
    while (bytes > 0) {
      const auto n = ::write(descriptor_, data, bytes);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) fail(errno);
      data += n;
      bytes -= static_cast<std::size_t>(n);
    }
  }
  std::string bytes() const { return armagrad::detail::read_file(path_); }
  void publish(const std::string& path) {
    if (::fsync(descriptor_) != 0 && errno != EINVAL) fail(errno);
    if (std::rename(path_.c_str(), path.c_str()) != 0) fail(errno);
  }
  void remove() { ::unlink(path_.c_str()); }

 private:
  [[noreturn]] void fail(int error) const {
    throw DataError(
        fmt::format("{} cannot be written ({}). Free some space or give access, or put the files into a "
                    "folder and name it.",
                    path_, std::generic_category().message(error)));
  }
  std::string path_;
  int descriptor_;
};

/// One request, appended to the part.
class Request {
 public:
  Request(Part& part, const Download& what) : part_(part), what_(what) {}

  /// Empty when the server said that all was sent.
  std::string run(const std::string& url) {
    static const CURLcode ready = curl_global_init(CURL_GLOBAL_DEFAULT);
    const std::unique_ptr<CURL, void (*)(CURL*)> curl(curl_easy_init(), curl_easy_cleanup);
    if (ready != CURLE_OK || curl == nullptr) return "libcurl cannot be started";
    curl_ = curl.get();
    begin_ = part_.size();
    std::array<char, CURL_ERROR_SIZE> words{};
    const std::string range = fmt::format("{}-", begin_);
    curl_easy_setopt(curl_, CURLOPT_URL, url.c_str());
    curl_easy_setopt(curl_, CURLOPT_FOLLOWLOCATION, 1L);
    curl_easy_setopt(curl_, CURLOPT_FAILONERROR, 1L);
    curl_easy_setopt(curl_, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl_, CURLOPT_CONNECTTIMEOUT, 10L);
    curl_easy_setopt(curl_, CURLOPT_LOW_SPEED_LIMIT, 1L);  // bytes a second
    curl_easy_setopt(curl_, CURLOPT_LOW_SPEED_TIME, 30L);
    curl_easy_setopt(curl_, CURLOPT_USERAGENT, "armagrad");
    curl_easy_setopt(curl_, CURLOPT_ERRORBUFFER, words.data());
    if (begin_ > 0) curl_easy_setopt(curl_, CURLOPT_RANGE, range.c_str());
    curl_easy_setopt(curl_, CURLOPT_WRITEFUNCTION, &Request::write);
    curl_easy_setopt(curl_, CURLOPT_WRITEDATA, this);
    curl_easy_setopt(curl_, CURLOPT_XFERINFOFUNCTION, &Request::transferred);
    curl_easy_setopt(curl_, CURLOPT_XFERINFODATA, this);
    curl_easy_setopt(curl_, CURLOPT_NOPROGRESS, what_.progress ? 0L : 1L);
    const CURLcode code = curl_easy_perform(curl_);
    if (failure_) std::rethrow_exception(failure_);
    if (too_large_) return "it sends more than any such file has";
    if (code == CURLE_OK) return "";
    if (code == CURLE_HTTP_RETURNED_ERROR) return fmt::format("HTTP status {}", status());
    return words[0] != '\0' ? words.data() : curl_easy_strerror(code);
  }

  long status() const {
    long code = 0;
    curl_easy_getinfo(curl_, CURLINFO_RESPONSE_CODE, &code);
    return code;
  }

 private:
  // Exceptions must not pass through libcurl.
  template <class F>
  bool guarded(F f) {
    try {
      f();
      return true;
    } catch (...) {
      failure_ = std::current_exception();
      return false;
    }
  }

  static std::size_t write(char* data, std::size_t, std::size_t bytes, void* self) {
    auto& request = *static_cast<Request*>(self);
    const bool kept = request.guarded([&] {
      // A server that knows no ranges sends all from the beginning.
      if (request.begin_ > 0 && request.status() != 206) {
        request.part_.clear();
        request.begin_ = 0;
      }
      request.too_large_ = request.part_.size() + bytes > size_limit;
      if (!request.too_large_) request.part_.append(data, bytes);
    });
    return kept && !request.too_large_ ? bytes : 0;
  }

  static int transferred(void* self, curl_off_t total, curl_off_t done, curl_off_t, curl_off_t) {
    auto& request = *static_cast<Request*>(self);
    if (request.status() >= 300) return 0;
    const auto before = request.begin_;
    return request.guarded([&] {
      request.what_.progress(before + static_cast<std::uint64_t>(done),
                             total == 0 ? 0 : before + static_cast<std::uint64_t>(total));
    })
               ? 0
               : 1;
  }

  Part& part_;
  const Download& what_;
  CURL* curl_ = nullptr;
  std::uint64_t begin_ = 0;  // where this request goes on
  bool too_large_ = false;
  std::exception_ptr failure_;
};

/// From one address, going on where a connection was cut; the reason when it failed.
std::string fetch(Part& part, const Download& what, const std::string& url) {
  for (;;) {
    const std::uint64_t before = part.size();
    Request request(part, what);
    std::string reason = request.run(url);
    if (reason.empty()) {
      std::string wrong = what.check(part.bytes());
      if (wrong.empty()) return "";
      part.clear();
      if (before == 0) return wrong;
      continue;  // what an earlier download had left may be to blame
    }
    if (before > 0 && request.status() == 416) {  // nothing is left to send, yet what there is was not right
      part.clear();
      continue;
    }
    if (part.size() <= before) return reason;  // else the connection was cut: go on
  }
}

std::string host_of(const std::string& url) {
  const std::size_t begin = url.find("://") == std::string::npos ? 0 : url.find("://") + 3;
  return url.substr(begin, url.find('/', begin) - begin);
}

}  // namespace

std::string download(const Download& what) {
  Part part(what.path);
  if (::access(what.path.c_str(), F_OK) == 0) {  // another program had the lock before and got it
    part.remove();
    return "";
  }
  if (part.size() > 0 && what.check(part.bytes()).empty()) {  // a program ended between the last byte and the renaming
    part.publish(what.path);
    return "";
  }
  std::vector<std::string> reasons;
  for (const auto& url : what.urls) {
    const std::string reason = fetch(part, what, url);
    if (reason.empty()) {
      part.publish(what.path);
      return "";
    }
    reasons.push_back(host_of(url) + ": " + reason);
  }
  if (part.size() == 0) part.remove();
  return fmt::format("{}", fmt::join(reasons, "; "));
}
#else
std::string download(const Download&) { return no_download(); }
#endif

}  // namespace armagrad::data::detail
