#include <algorithm>
#include <limits>
#include <memory>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <zlib.h>

#include <armagrad/autodiff/error.hpp>
#include <armagrad/autodiff/file.hpp>
#include <armagrad/datasets/idx.hpp>

namespace armagrad::data {
namespace {

template <class... Args>
[[noreturn]] void fail(const std::string& source, fmt::format_string<Args...> text, Args&&... args) {
  throw DataError(source + ": " + fmt::format(text, std::forward<Args>(args)...));
}

std::uint8_t byte(std::string_view bytes, std::size_t i) { return static_cast<std::uint8_t>(bytes[i]); }

constexpr std::size_t longest_header = 4 + 255 * 4;

struct Header {
  std::vector<std::uint32_t> shape;
  std::size_t bytes;    // of the header itself
  std::uint64_t count;  // of the numbers, a byte each
};

Header read_header(std::string_view bytes, const std::string& source) {
  if (bytes.size() < 4)
    fail(source, "it has {} bytes, too few for an IDX file; it is cut off or something else.", bytes.size());
  if (byte(bytes, 0) != 0 || byte(bytes, 1) != 0)
    fail(source, "it begins with {:02x} {:02x}, an IDX file with 00 00; it is something else.", byte(bytes, 0),
         byte(bytes, 1));
  if (byte(bytes, 2) != 8)
    fail(source, "its numbers are of type {:02x}; only unsigned bytes (08) are read.", byte(bytes, 2));
  const std::size_t dimensions = byte(bytes, 3);
  if (dimensions == 0) fail(source, "its header names no dimension; it is damaged.");
  Header header{{}, 4 + 4 * dimensions, 1};
  if (bytes.size() < header.bytes) fail(source, "it is cut off within its header. Get it again.");
  for (std::size_t i = 4; i < header.bytes; i += 4)
    header.shape.push_back(static_cast<std::uint32_t>(byte(bytes, i)) << 24 | byte(bytes, i + 1) << 16 |
                           byte(bytes, i + 2) << 8 | byte(bytes, i + 3));
  for (const std::uint64_t d : header.shape) {
    if (d != 0 && header.count > std::numeric_limits<std::int64_t>::max() / d)
      fail(source, "its header claims {} numbers, more than any file holds; it is damaged.",
           fmt::join(header.shape, "x"));
    header.count *= d;
  }
  return header;
}

}  // namespace

namespace detail {

bool is_gzip(std::string_view bytes) { return bytes.starts_with("\x1f\x8b"); }

std::string gunzip(std::string_view bytes, const std::string& source, std::size_t limit) {
  z_stream stream{};
  if (inflateInit2(&stream, 15 + 16) != Z_OK) throw std::bad_alloc();  // 16: gzip's header and checksum
  const std::unique_ptr<z_stream, int (*)(z_stream*)> end(&stream, inflateEnd);

  std::string out;
  std::size_t filled = 0, taken = 0;
  int status = Z_OK;
  while (filled < limit) {
    if (taken == bytes.size() && status == Z_STREAM_END) break;
    if (status == Z_STREAM_END) {  // another packed file follows: gzip files may be joined
      if (!is_gzip(bytes.substr(taken))) fail(source, "other bytes follow its gzip data; it is damaged. Get it again.");
      inflateReset(&stream);
    }
    // Memory grows with what is really unpacked, never with what a header claims.
    if (filled == out.size()) out.resize(std::min(limit, std::max<std::size_t>(65536, 2 * filled)));
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data() + taken));  // only read
    stream.avail_in = static_cast<uInt>(std::min<std::size_t>(bytes.size() - taken, 1u << 30));
    stream.next_out = reinterpret_cast<Bytef*>(out.data() + filled);
    stream.avail_out = static_cast<uInt>(std::min<std::size_t>(out.size() - filled, 1u << 30));
    const std::size_t in = stream.avail_in, room = stream.avail_out;
    status = inflate(&stream, Z_NO_FLUSH);
    taken += in - stream.avail_in;
    filled += room - stream.avail_out;
    if (status == Z_MEM_ERROR) throw std::bad_alloc();
    if (status == Z_BUF_ERROR) fail(source, "its gzip data is cut off. Get it again.");
    if (status != Z_OK && status != Z_STREAM_END)
      fail(source, "its gzip data is damaged ({}). Get it again.", stream.msg == nullptr ? "inflate" : stream.msg);
  }
  out.resize(filled);
  return out;
}

}  // namespace detail

IdxArray parse_idx(std::string_view bytes, const std::string& source) {
  std::string unpacked;
  const bool packed = detail::is_gzip(bytes);
  const Header header = read_header(packed ? detail::gunzip(bytes, source, longest_header) : bytes, source);
  if (packed) {
    // One byte more than there should be tells whether there are too many.
    unpacked = detail::gunzip(bytes, source, header.bytes + header.count + 1);
    bytes = unpacked;
  }
  bytes.remove_prefix(header.bytes);
  if (bytes.size() < header.count)
    fail(source, "its header claims {} numbers, but only {} follow: it is cut off. Get it again.",
         fmt::join(header.shape, "x"), bytes.size());
  if (bytes.size() > header.count)
    fail(source, "more follows than the {} numbers that its header claims; it is damaged or something else.",
         fmt::join(header.shape, "x"));
  return {header.shape, {bytes.begin(), bytes.end()}, source};
}

IdxArray read_idx(const std::string& path) { return parse_idx(armagrad::detail::read_file(path), path); }

template <class eT>
Dataset<eT> idx_dataset(const IdxArray& images, const IdxArray& labels, std::size_t classes) {
  if (images.shape.size() < 2)
    fail(images.source, "images have at least 2 dimensions, this file has {}. Are images and labels swapped?",
         images.shape.size());
  if (labels.shape.size() != 1)
    fail(labels.source, "labels have 1 dimension, this file has {}. Are images and labels swapped?",
         labels.shape.size());
  const std::uint32_t n = images.shape[0];
  if (labels.shape[0] != n)
    fail(images.source, "it holds {} images, but {} holds {} labels. Take both from the same set.", n, labels.source,
         labels.shape[0]);
  Dataset<eT> out{arma::Mat<eT>(n == 0 ? 0 : images.values.size() / n, n), arma::Row<std::size_t>(n), classes};
  // An image's bytes are a column's numbers, in order.
  std::transform(images.values.begin(), images.values.end(), out.x.begin(),
                 [](std::uint8_t pixel) { return static_cast<eT>(pixel) / eT(255); });
  std::copy(labels.values.begin(), labels.values.end(), out.y.begin());
  if (classes == 0) out.classes = n == 0 ? 0 : out.y.max() + 1;
  for (std::uint32_t i = 0; i < n; ++i)
    if (out.y[i] >= out.classes)
      fail(labels.source, "label {} of sample {} is out of range: the set has {} classes, 0 to {}. Get it again.",
           out.y[i], i, out.classes, out.classes - 1);
  return out;
}

template Dataset<float> idx_dataset(const IdxArray&, const IdxArray&, std::size_t);
template Dataset<double> idx_dataset(const IdxArray&, const IdxArray&, std::size_t);

}  // namespace armagrad::data
