// Files in the format of MNIST's (IDX): a magic number, the dimensions, the numbers, big-endian and row-major.
// http://yann.lecun.com/exdb/mnist describes it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <armagrad/datasets/dataset.hpp>

namespace armagrad::data {

/// An array of bytes as the file holds it, row-major; for images {images, rows, columns}, for labels {images}.
struct IdxArray {
  std::vector<std::uint32_t> shape;
  std::vector<std::uint8_t> values;
  std::string source;  ///< the file, for messages
};

/// Reads an IDX file of unsigned bytes, as it is or packed by gzip (the bytes tell, not the name).
/// @throws DataError, naming the file, what is wrong and the way out, for a file that is missing, cut off or damaged,
///   whose header claims more than there is, or that is something else.
IdxArray read_idx(const std::string& path);
/// The same for the bytes of a file; `source` names them in messages.
IdxArray parse_idx(std::string_view bytes, const std::string& source);

/// A labelled set from images and their labels: x is pixels x images, each image row by row (28 x 28 becomes 784 x 1),
/// divided by 255, so 0 ... 1. `classes` is one more than the highest label unless it is given.
/// @throws DataError, naming the files, when the dimensions are no images' and labels', the counts differ or a label is
///   not below `classes`.
template <class eT>
Dataset<eT> idx_dataset(const IdxArray& images, const IdxArray& labels, std::size_t classes = 0);

/// The same for two files: any set of images in MNIST's format.
template <class eT>
Dataset<eT> load_idx(const std::string& images, const std::string& labels, std::size_t classes = 0) {
  return idx_dataset<eT>(read_idx(images), read_idx(labels), classes);
}

namespace detail {

bool is_gzip(std::string_view bytes);
/// The unpacked bytes of gzip data, at most `limit` of them. DataError, naming `source`, when they are damaged or cut
/// off.
std::string gunzip(std::string_view bytes, const std::string& source, std::size_t limit);

}  // namespace detail
}  // namespace armagrad::data
