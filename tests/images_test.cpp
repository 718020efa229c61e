// Sets of images in MNIST's format: the reader of IDX files, where the sets are looked for, and their download, from a
// server in this program that misbehaves on request.
#define BOOST_TEST_MODULE images
#include <algorithm>
#include <atomic>
#include <cctype>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iostream>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <arpa/inet.h>
#include <boost/test/unit_test.hpp>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>
#include <zlib.h>

#include <armagrad/autodiff/error.hpp>
#include <armagrad/datasets/download.hpp>
#include <armagrad/datasets/idx.hpp>
#include <armagrad/datasets/mnist.hpp>

#include "refused.hpp"

namespace fs = std::filesystem;
using namespace armagrad;
using namespace armagrad::data;

namespace {

std::string idx(const std::vector<std::uint32_t>& shape, const std::string& values) {
  std::string out{0, 0, 8, static_cast<char>(shape.size())};
  for (const std::uint32_t d : shape)
    for (const int shift : {24, 16, 8, 0}) out += static_cast<char>(d >> shift & 255);
  return out + values;
}

std::string gzip(const std::string& bytes) {
  z_stream stream{};
  deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY);
  std::string out(deflateBound(&stream, bytes.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  stream.avail_in = static_cast<uInt>(bytes.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  deflate(&stream, Z_FINISH);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

void bad(const std::string& bytes, const std::string& message) {
  refused<DataError>([&] { parse_idx(bytes, "f"); }, "f: " + message);
}

void write(const fs::path& path, const std::string& bytes) { std::ofstream(path, std::ios::binary) << bytes; }
/// What a source says in a build without OpenSSL.
const std::string unchecked =
    data::detail::sha256("").empty() ? ", not checked (this build of armagrad lacks OpenSSL)" : "";

/// A folder of this test's own that is also the user's cache while it lives.
struct Folder {
  fs::path path = fs::temp_directory_path() / fmt::format("armagrad_images_{}", getpid());
  Folder() {
    fs::remove_all(path);
    fs::create_directories(path);
    setenv("XDG_CACHE_HOME", (path / "cache").c_str(), 1);
    setenv("no_proxy", "127.0.0.1", 1);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  ~Folder() { fs::remove_all(path); }
};

/// A web server on this machine. `answer` decides what is sent for a request's path and first wanted byte.
class Server {
 public:
  struct Answer {
    int status = 200;
    std::string body{};
    std::size_t cut = std::string::npos;  // bytes after which the connection is closed
  };
  using Answers = std::function<Answer(const std::string& path, std::size_t from)>;

  explicit Server(Answers answers) : answers_(std::move(answers)), socket_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof(address);
    BOOST_TEST_REQUIRE(::bind(socket_, reinterpret_cast<sockaddr*>(&address), length) == 0);
    ::listen(socket_, 8);
    ::getsockname(socket_, reinterpret_cast<sockaddr*>(&address), &length);
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] { serve(); });
  }
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;
  ~Server() {
    ::shutdown(socket_, SHUT_RDWR);
    thread_.join();
    ::close(socket_);
  }
  std::string host() const { return fmt::format("127.0.0.1:{}", port_); }
  std::string url() const { return fmt::format("http://{}/", host()); }
  /// "PATH FROM" for each request so far.
  std::vector<std::string> requests() {
    const std::lock_guard lock(mutex_);
    return requests_;
  }

 private:
  void serve() {
    for (int client; (client = ::accept(socket_, nullptr, nullptr)) >= 0; ::close(client)) {
      std::string request;
      char buffer[4096];
      while (request.find("\r\n\r\n") == std::string::npos) {
        const auto n = ::recv(client, buffer, sizeof(buffer), 0);
        if (n <= 0) break;
        request.append(buffer, static_cast<std::size_t>(n));
      }
      const std::size_t slash = request.find('/');
      if (slash == std::string::npos) continue;
      const std::string path = request.substr(slash + 1, request.find(' ', slash) - slash - 1);
      const std::size_t range = request.find("Range: bytes=");
      const std::size_t from = range == std::string::npos ? 0 : std::stoul(request.substr(range + 13));
      {
        const std::lock_guard lock(mutex_);
        requests_.push_back(fmt::format("{} {}", path, from));
      }
      const Answer answer = answers_(path, from);
      std::string reply = fmt::format("HTTP/1.1 {} X\r\nContent-Length: {}\r\nConnection: close\r\n", answer.status,
                                      answer.body.size());
      if (answer.status == 206)
        reply += fmt::format("Content-Range: bytes {}-{}/{}\r\n", from, from + answer.body.size() - 1,
                             from + answer.body.size());
      reply += "\r\n" + answer.body.substr(0, answer.cut);
      for (std::size_t sent = 0; sent < reply.size();) {
        const auto n = ::send(client, reply.data() + sent, reply.size() - sent, MSG_NOSIGNAL);
        if (n <= 0) break;
        sent += static_cast<std::size_t>(n);
      }
    }
  }

  Answers answers_;
  int socket_;
  std::uint16_t port_ = 0;
  std::mutex mutex_;
  std::vector<std::string> requests_;
  std::thread thread_;
};

/// A set of 3 and 2 images of 2 x 2, its files and where they are.
struct Small {
  std::vector<std::pair<std::string, std::string>> files;  // name, content
  ImageSet set;

  Small() {
    const auto file = [&](const std::string& name, const std::string& content) {
      files.emplace_back(name, content);
      return ImageSet::File{name, data::detail::sha256(content), content.size()};
    };
    set.title = "Small";
    set.name = "small";
    set.classes = 4;
    // Long enough that a part of it, packed, is still worth resuming.
    std::string pixels(3 * 40 * 40, '\0');
    std::uint32_t state = 1;
    for (char& p : pixels) p = static_cast<char>((state = state * 1664525 + 1013904223) >> 24);
    set.train_images = file("train-images", idx({3, 40, 40}, pixels));
    set.train_labels = file("train-labels", idx({3}, std::string{0, 1, 3}));
    set.test_images = file("test-images", idx({2, 40, 40}, pixels.substr(0, 3200)));
    set.test_labels = file("test-labels", idx({2}, std::string{2, 1}));
  }
  void put(const fs::path& folder) const {
    fs::create_directories(folder);
    for (const auto& [name, content] : files) write(folder / (name + ".gz"), gzip(content));
  }
  std::string packed(const std::string& name_gz) const {
    for (const auto& [name, content] : files)
      if (name + ".gz" == name_gz) return gzip(content);
    return {};
  }
  /// As a good server answers.
  Server::Answer answer(const std::string& path, std::size_t from) const {
    const std::string whole = packed(path);
    if (whole.empty()) return {404, "no"};
    if (from > whole.size()) return {416, ""};
    return {from == 0 ? 200 : 206, whole.substr(from)};
  }
};

void check(const Images<float>& images) {
  BOOST_TEST(images.train.x.n_rows == 1600);
  BOOST_TEST(images.train.x.n_cols == 3);
  BOOST_TEST(images.test.x.n_cols == 2);
  BOOST_TEST(images.train.y[2] == 3);
  BOOST_TEST(images.test.y[0] == 2);
  BOOST_TEST(images.train.classes == 4);
}

#define SKIP_WITHOUT_DOWNLOAD()                                     \
  if (const auto why = data::detail::no_download(); !why.empty()) { \
    std::cout << "Skipped: " << why << '\n';                        \
    return;                                                         \
  }

}  // namespace

BOOST_AUTO_TEST_SUITE(idx_files)

BOOST_AUTO_TEST_CASE(an_image_becomes_a_column_row_by_row) {
  const auto images = parse_idx(idx({2, 2, 3}, {0, 51, 102, -103, -52, -1, 1, 2, 3, 4, 5, 6}), "images");
  const auto labels = parse_idx(gzip(idx({2}, {7, 0})), "labels");
  const auto set = idx_dataset<double>(images, labels);
  BOOST_TEST(set.x.n_rows == 6);
  BOOST_TEST(set.x.n_cols == 2);
  for (arma::uword i = 0; i < 6; ++i) BOOST_TEST(set.x(i, 0) == 51.0 * static_cast<double>(i) / 255);
  BOOST_TEST(set.x(3, 1) == 4.0 / 255);
  BOOST_TEST(set.y[0] == 7);
  BOOST_TEST(set.classes == 8);
  BOOST_TEST(idx_dataset<float>(images, labels, 10).classes == 10);
}

BOOST_AUTO_TEST_CASE(plain_gzip_and_joined_gzip_are_read) {
  const std::string bytes = idx({3, 5}, std::string(15, 'x'));
  for (const auto& file : {bytes, gzip(bytes), gzip(bytes.substr(0, 9)) + gzip(bytes.substr(9))}) {
    const IdxArray array = parse_idx(file, "f");
    BOOST_TEST(array.shape == (std::vector<std::uint32_t>{3, 5}));
    BOOST_TEST(array.values.size() == 15);
  }
  BOOST_TEST(idx_dataset<float>(parse_idx(idx({0, 28, 28}, ""), "i"), parse_idx(idx({0}, ""), "l")).x.n_cols == 0);
}

BOOST_AUTO_TEST_CASE(damaged_files_are_refused) {
  const std::string whole = idx({2, 3}, "abcdef"), packed = gzip(whole);
  for (std::size_t n = 0; n < whole.size(); ++n) BOOST_CHECK_THROW(parse_idx(whole.substr(0, n), "f"), DataError);
  for (std::size_t n = 0; n < packed.size(); ++n) BOOST_CHECK_THROW(parse_idx(packed.substr(0, n), "f"), DataError);
  bad("\x1", "it has 1 bytes, too few for an IDX file; it is cut off or something else.");
  bad("<html>", "it begins with 3c 68, an IDX file with 00 00; it is something else.");
  bad(std::string("\0\0\x0d\x01", 4), "its numbers are of type 0d; only unsigned bytes (08) are read.");
  bad(std::string("\0\0\x08\0", 4), "its header names no dimension; it is damaged.");
  bad(whole.substr(0, 9), "it is cut off within its header. Get it again.");
  bad(idx({0xffffffff, 0xffffffff, 2}, "x"),
      "its header claims 4294967295x4294967295x2 numbers, more than any file holds; it is damaged.");
  bad(idx({60000, 28, 28}, "x"),
      "its header claims 60000x28x28 numbers, but only 1 follow: it is cut off. Get it again.");
  bad(gzip(idx({60000, 28, 28}, "x")),
      "its header claims 60000x28x28 numbers, but only 1 follow: it is cut off. Get it again.");
  bad(whole + "g", "more follows than the 2x3 numbers that its header claims; it is damaged or something else.");
  bad(gzip(whole + "g"), "more follows than the 2x3 numbers that its header claims; it is damaged or something else.");
  bad(packed.substr(0, packed.size() - 1), "its gzip data is cut off. Get it again.");
  bad(packed + "more", "other bytes follow its gzip data; it is damaged. Get it again.");
  std::string flipped = packed;
  flipped[packed.size() - 6] ^= 1;
  bad(flipped, "its gzip data is damaged (incorrect data check). Get it again.");
  refused<DataError>([] { read_idx("nowhere/images"); }, "nowhere/images cannot be read (No such file or directory).");
}

BOOST_AUTO_TEST_CASE(images_and_labels_that_do_not_belong_together_are_refused) {
  const auto images = parse_idx(idx({2, 1, 1}, "ab"), "images");
  const auto labels = parse_idx(idx({2}, {1, 12}), "labels");
  refused<DataError>([&] { idx_dataset<float>(labels, images); },
                     "labels: images have at least 2 dimensions, this file has 1. Are images and labels swapped?");
  refused<DataError>([&] { idx_dataset<float>(images, images); },
                     "images: labels have 1 dimension, this file has 3. Are images and labels swapped?");
  refused<DataError>([&] { idx_dataset<float>(images, parse_idx(idx({3}, "abc"), "labels")); },
                     "images: it holds 2 images, but labels holds 3 labels. Take both from the same set.");
  refused<DataError>([&] { idx_dataset<float>(images, labels, 10); },
                     "labels: label 12 of sample 1 is out of range: the set has 10 classes, 0 to 9. Get it again.");
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(places)

BOOST_AUTO_TEST_CASE(the_named_folder_the_cache_and_the_package_are_searched_in_this_order) {
  const Folder folder;
  Small small;
  small.set.package = "dataset-small";
  small.set.package_folder = folder.path / "package";
  const std::string mine = folder.path / "mine", cache = folder.path / "cache/armagrad/small";
  BOOST_TEST(image_cache(small.set) == cache);
  fs::create_directories(mine);
  const ImageOptions options{mine, false};

  small.put(small.set.package_folder);
  auto images = load_images<float>(small.set, options);
  check(images);
  BOOST_TEST(images.source ==
             "Small from the Debian package dataset-small (" + small.set.package_folder + ")" + unchecked);
  small.put(cache);
  BOOST_TEST(load_images<float>(small.set, options).source == "Small from " + cache + unchecked);
  small.put(mine + "/small");
  BOOST_TEST(load_images<float>(small.set, options).source == "Small from " + mine + "/small" + unchecked);
  for (const auto& [name, content] : small.files) write(fs::path(mine) / name, content);  // not packed
  images = load_images<float>(small.set, options);
  check(images);
  BOOST_TEST(images.source == "Small from " + mine + unchecked);
}

BOOST_AUTO_TEST_CASE(a_set_that_is_nowhere_is_an_error_that_says_where_to_put_it) {
  const Folder folder;
  const Small small;
  const std::string cache = folder.path / "cache/armagrad/small";
  refused<DataError>(
      [&] {
        load_images<float>(small.set, {folder.path, false});
      },
      fmt::format("Small is not in {0}, nor in {0}/small, nor in {1} and was not downloaded (downloading "
                  "is off). Put train-images, train-labels, test-images, test-labels (plain or .gz) into "
                  "{1}, or into a folder and name it.",
                  folder.path.string(), cache));
  refused<DataError>(
      [&] { load_images<float>(small.set, {}); },
      fmt::format("Small is not in {0} and was not downloaded (no mirror of it is known). Put "
                  "train-images, train-labels, test-images, test-labels (plain or .gz) into {0}, or into "
                  "a folder and name it.",
                  cache));
  refused<DataError>([&] { load_images<float>(small.set, {"nowhere"}); },
                     "nowhere is no folder. Name one that holds train-images, train-labels, test-images, test-labels "
                     "(plain or .gz).");
  refused<OptionError>([] { image_set("minst"); },
                       "there is no set of images \"minst\"; there are mnist and fashion-mnist.");
}

BOOST_AUTO_TEST_CASE(the_next_set_serves_and_the_reason_is_told) {
  const Folder folder;
  const Small small;
  ImageSet other = small.set;
  other.title = "Other";
  other.name = "other";
  small.put(image_cache(other));
  const auto images = load_first_images<float>({small.set, other}, {.download = false});
  check(images);
  BOOST_TEST(images.source ==
             fmt::format("Other from {}{}, because Small is not in {} and was not downloaded (downloading "
                         "is off)",
                         image_cache(other), unchecked, image_cache(small.set)));
}

BOOST_AUTO_TEST_CASE(a_part_of_a_set_and_another_set_are_refused) {
  const Folder folder;
  const Small small;
  small.put(folder.path);
  fs::remove(folder.path / "test-labels.gz");
  refused<DataError>([&] { load_images<float>(small.set, {folder.path}); },
                     folder.path.string() +
                         " holds only a part of Small: put test-labels there as well (plain or .gz), or name another "
                         "folder.");
  small.put(folder.path);
  write(folder.path / "train-labels", idx({3}, {0, 1, 2}));
  if (data::detail::sha256("").empty()) return;
  refused<DataError>(
      [&] {
        load_first_images<float>({small.set, small.set}, {folder.path});
      },
      fmt::format("{}/train-labels is not Small's train-labels: SHA-256 {}..., unpacked, where {}... is right. It is "
                  "damaged or of another set; remove it, then it is got anew, or name the set that it is of.",
                  folder.path.string(), data::detail::sha256(idx({3}, {0, 1, 2})).substr(0, 8),
                  small.set.train_labels.sha256.substr(0, 8)));
  write(folder.path / "train-labels", "short");
  refused<DataError>(
      [&] { load_images<float>(small.set, {folder.path}); },
      folder.path.string() +
          "/train-labels is not Small's train-labels: 5 bytes, unpacked, where 11 are right. It is damaged "
          "or of another set; remove it, then it is got anew, or name the set that it is of.");
}

BOOST_AUTO_TEST_CASE(sha256_is_the_standards) {  // FIPS 180-2, appendix B.1
  if (data::detail::sha256("").empty()) return;
  BOOST_TEST(data::detail::sha256("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(downloads)

BOOST_AUTO_TEST_CASE(a_set_comes_into_the_cache_once) {
  SKIP_WITHOUT_DOWNLOAD()
  const Folder folder;
  Small small;
  Server server([&](const std::string& path, std::size_t from) { return small.answer(path, from); });
  small.set.mirrors = {server.url()};
  std::vector<DownloadProgress> progress;
  const auto images = load_images<float>(small.set, {.progress = [&](const auto& p) { progress.push_back(p); }});
  check(images);
  BOOST_TEST(images.source == "Small from " + image_cache(small.set));
  check(load_images<float>(small.set));
  BOOST_TEST(server.requests().size() == 4);
  BOOST_TEST_REQUIRE(!progress.empty());
  BOOST_TEST(progress.front().file == "train-images.gz");
  const auto last =
      std::find_if(progress.rbegin(), progress.rend(), [](const auto& p) { return p.file == "train-images.gz"; });
  BOOST_TEST(last->done == small.packed("train-images.gz").size());
  BOOST_TEST(last->total == last->done);
  BOOST_TEST(std::distance(fs::directory_iterator(image_cache(small.set)), {}) == 4);  // no .part is left
}

BOOST_AUTO_TEST_CASE(a_cut_off_download_goes_on_where_it_ended) {
  SKIP_WITHOUT_DOWNLOAD()
  const Folder folder;
  Small small;
  std::atomic<bool> dead = false;
  Server server([&](const std::string& path, std::size_t from) {
    auto answer = small.answer(path, from);
    if (path == "train-images.gz" && from < 2000) answer.cut = 1000;  // twice
    if (dead) answer = {503, "later"};
    if (path == "train-labels.gz") dead = true;
    return answer;
  });
  small.set.mirrors = {server.url()};
  refused<DataError>([&] { load_images<float>(small.set); },
                     fmt::format("Small is not in {0} and was not downloaded ({1}: HTTP status 503). Put train-images, "
                                 "train-labels, test-images, test-labels (plain or .gz) into {0}, or into a folder and "
                                 "name it.",
                                 image_cache(small.set), server.host()));
  BOOST_TEST(server.requests() ==
             (std::vector<std::string>{"train-images.gz 0", "train-images.gz 1000", "train-images.gz 2000",
                                       "train-labels.gz 0", "test-images.gz 0"}));
  dead = false;
  // What an earlier program left behind: the beginning of a file, and a whole one that has not got its name yet.
  write(image_cache(small.set) + "/test-images.gz.part", small.packed("test-images.gz").substr(0, 700));
  write(image_cache(small.set) + "/test-labels.gz.part", small.packed("test-labels.gz"));
  check(load_images<float>(small.set));
  BOOST_TEST(server.requests().size() == 6);
  BOOST_TEST(server.requests().back() == "test-images.gz 700");
}

BOOST_AUTO_TEST_CASE(wrong_bytes_are_never_kept_and_the_next_mirror_serves) {
  SKIP_WITHOUT_DOWNLOAD()
  const Folder folder;
  Small small;
  Server wrong([&](const std::string& path, std::size_t from) {
    if (path == "train-images.gz") return Server::Answer{200, gzip(idx({3, 40, 40}, std::string(4800, 'x')))};
    if (path == "train-labels.gz") return Server::Answer{200, "<html>Sign in to use this network</html>"};
    if (path == "test-images.gz") return Server::Answer{404, "gone"};
    return small.answer(path, from);
  });
  Server right([&](const std::string& path, std::size_t from) { return small.answer(path, from); });
  small.set.mirrors = {wrong.url()};
  refused<DataError>(
      [&] { load_images<float>(small.set); },
      fmt::format("Small is not in {0} and was not downloaded ({1}: it sends something else (SHA-256 {2}..., unpacked, "
                  "where {3}... is right)). Put train-images, train-labels, test-images, test-labels (plain or .gz) "
                  "into {0}, or into a folder and name it.",
                  image_cache(small.set), wrong.host(),
                  data::detail::sha256(idx({3, 40, 40}, std::string(4800, 'x'))).substr(0, 8),
                  small.set.train_images.sha256.substr(0, 8)));
  BOOST_TEST(fs::is_empty(image_cache(small.set)));
  small.set.mirrors = {wrong.url(), right.url()};
  check(load_images<float>(small.set));
  BOOST_TEST(right.requests() ==
             (std::vector<std::string>{"train-images.gz 0", "train-labels.gz 0", "test-images.gz 0"}));
}

BOOST_AUTO_TEST_CASE(a_damaged_part_and_servers_without_ranges_start_again) {
  SKIP_WITHOUT_DOWNLOAD()
  const Folder folder;
  Small small;
  Server server([&](const std::string& path, std::size_t from) {
    if (path == "test-images.gz") from = 0;  // this file's server knows no ranges
    return small.answer(path, from);
  });
  small.set.mirrors = {server.url()};
  const std::string cache = image_cache(small.set);
  fs::create_directories(cache);
  write(cache + "/train-images.gz.part", std::string(500, 'x'));   // of another file
  write(cache + "/train-labels.gz.part", std::string(1000, 'x'));  // longer than the file
  write(cache + "/test-images.gz.part", small.packed("test-images.gz").substr(0, 300));
  check(load_images<float>(small.set));
  BOOST_TEST(server.requests() ==
             (std::vector<std::string>{"train-images.gz 500", "train-images.gz 0", "train-labels.gz 1000",
                                       "train-labels.gz 0", "test-images.gz 300", "test-labels.gz 0"}));
}

BOOST_AUTO_TEST_CASE(what_the_progress_throws_ends_the_download) {
  SKIP_WITHOUT_DOWNLOAD()
  const Folder folder;
  Small small;
  Server server([&](const std::string& path, std::size_t from) { return small.answer(path, from); });
  small.set.mirrors = {server.url()};
  refused<StateError>(
      [&] { load_images<float>(small.set, {.progress = [](const auto&) { throw StateError("interrupted"); }}); },
      "interrupted");
}

BOOST_AUTO_TEST_CASE(no_server_and_a_full_disk_are_told) {
  SKIP_WITHOUT_DOWNLOAD()
  const Folder folder;
  Small small;
  std::string host;
  {
    const Server gone([&](const std::string&, std::size_t) { return Server::Answer{}; });
    host = gone.host();
  }
  small.set.mirrors = {"http://" + host + "/"};
  try {
    load_images<float>(small.set);
    BOOST_ERROR("nothing was thrown");
  } catch (const DataError& e) {
    BOOST_TEST(std::string(e.what()).find(host + ": Failed to connect to 127.0.0.1 port ") != std::string::npos,
               e.what());
  }

  Server server([&](const std::string& path, std::size_t from) { return small.answer(path, from); });
  small.set.mirrors = {server.url()};
  std::signal(SIGXFSZ, SIG_IGN);
  rlimit limit{};
  getrlimit(RLIMIT_FSIZE, &limit);
  const rlimit tight{2000, limit.rlim_max};
  setrlimit(RLIMIT_FSIZE, &tight);
  std::string said;
  try {
    load_images<float>(small.set);
  } catch (const DataError& e) {
    said = e.what();
  }
  setrlimit(RLIMIT_FSIZE, &limit);
  BOOST_TEST(said == image_cache(small.set) +
                         "/train-images.gz.part cannot be written (File too large). Free some space or give access, or "
                         "put the files into a folder and name it.");
  check(load_images<float>(small.set));  // goes on with what there was
  BOOST_TEST(server.requests()[1] == "train-images.gz 2000");
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(published_sets)

void check_published(const Images<float>& images, const std::vector<std::size_t>& first_labels) {
  BOOST_TEST(images.train.x.n_rows == 784);
  BOOST_TEST(images.train.x.n_cols == 60000);
  BOOST_TEST(images.test.x.n_cols == 10000);
  BOOST_TEST(images.train.x.min() == 0);
  BOOST_TEST(images.train.x.max() == 1);
  for (std::size_t i = 0; i < first_labels.size(); ++i) BOOST_TEST(images.test.y[i] == first_labels[i]);
}

BOOST_AUTO_TEST_CASE(mnist_where_it_is) {
  const char* named = std::getenv("ARMAGRAD_MNIST");
  const fs::path folder = named != nullptr ? fs::path(named) : fs::path(ARMAGRAD_SOURCE_DIR) / "../shared/data/mnist";
  if (!fs::exists(folder / "t10k-labels-idx1-ubyte.gz") && !fs::exists(folder / "t10k-labels-idx1-ubyte")) {
    std::cout << "Skipped: MNIST is not in " << folder << "; name its folder in ARMAGRAD_MNIST.\n";
    return;
  }
  const auto images = load_images<float>(mnist(), {folder, false});
  check_published(images, {7, 2, 1, 0, 4, 1, 4, 9, 5, 9});
  BOOST_TEST(images.source == "MNIST from " + folder.string() + unchecked);
  // The seven's bar: the 8th row of the first test image begins at column 6 with 84, 185, 159.
  BOOST_TEST(images.test.x(7 * 28 + 6, 0) == 84.0f / 255);
  BOOST_TEST(images.test.x(7 * 28 + 7, 0) == 185.0f / 255);
  BOOST_TEST(images.test.x(7 * 28 + 8, 0) == 159.0f / 255);
}

BOOST_AUTO_TEST_CASE(fashion_mnist_from_the_debian_package) {
  if (!fs::exists(fashion_mnist().package_folder)) {
    std::cout << "Skipped: the Debian package dataset-fashion-mnist is not installed.\n";
    return;
  }
  const Folder nothing_cached;
  const auto images = load_images<float>(fashion_mnist(), {.download = false});
  check_published(images, {9, 2, 1, 1, 6, 1, 4, 6, 5, 7});
  BOOST_TEST(images.source ==
             "Fashion-MNIST from the Debian package dataset-fashion-mnist (/usr/share/datasets/fashion-mnist)" +
                 unchecked);
}

BOOST_AUTO_TEST_SUITE_END()
