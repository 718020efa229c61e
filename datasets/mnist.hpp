// Published sets of images in MNIST's format: found on this machine or downloaded, and always checked.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include <armagrad/datasets/dataset.hpp>

namespace armagrad::data {

/// What is known of a set before it is there. mnist() and fashion_mnist() are two; a set of your own is another.
struct ImageSet {
  struct File {
    std::string name{};       ///< of the unpacked file; NAME.gz is the packed one
    std::string sha256{};     ///< of the unpacked content, in hexadecimal; empty: not checked, and not downloaded
    std::uint64_t bytes = 0;  ///< of the unpacked content
  };
  std::string title{};  ///< "MNIST"
  std::string name{};   ///< "mnist": on command lines, and of its folder in the cache
  std::size_t classes = 10;
  File train_images{}, train_labels{}, test_images{}, test_labels{};
  std::vector<std::string> mirrors{};  ///< addresses before NAME.gz, with the last slash; tried in this order
  std::string package{};               ///< the Debian package that holds it, if any
  std::string package_folder{};        ///< where the package puts the files
};

/// Handwritten digits, 60,000 and 10,000 images of 28 x 28 (Y. LeCun, C. Cortes, C. Burges, 1998).
const ImageSet& mnist();
/// Pieces of clothing in the same numbers and sizes (H. Xiao, K. Rasul, R. Vollgraf, arXiv:1708.07747).
const ImageSet& fashion_mnist();
/// "mnist" or "fashion-mnist". @throws OptionError for another name.
const ImageSet& image_set(const std::string& name);

struct DownloadProgress {
  std::string file{};       ///< "train-images-idx3-ubyte.gz"
  std::uint64_t done = 0;   ///< bytes, those of an earlier, cut-off download included
  std::uint64_t total = 0;  ///< 0 while it is not known
};

struct ImageOptions {
  std::string folder{};  ///< where the user has the files; they or a folder in it called as the set
  bool download = true;
  std::function<void(const DownloadProgress&)> progress{};  ///< called some times a second; what it throws ends it
};

template <class eT>
struct Images {
  Dataset<eT> train, test;  ///< x: 784 x samples, 0 ... 1
  std::string source;       ///< "MNIST from FOLDER", for reports
};

/// Reads the set from the first of: the named folder; the user's cache, `image_cache(set)`; the Debian package's
/// folder; the mirrors, into the cache. Files may be packed by gzip or not. Contents are compared with the set's
/// SHA-256, so that no damaged file and no other set is taken for it (a library built without OpenSSL cannot: `source`
/// says so then, and nothing is downloaded). A download that was cut off is resumed, and has its name only when it is
/// whole and checked.
/// @throws DataError when the set cannot be had, saying where it was looked for and where to put it; for a folder that
///   does not exist or holds only some of the files; for files that are damaged or of another set; for a full disk.
template <class eT>
Images<eT> load_images(const ImageSet& set, const ImageOptions& options = {});

/// The first of the sets that can be had. `source` says why an earlier one was not taken: "Fashion-MNIST from ...,
/// because MNIST ...".
/// @throws DataError as load_images; a damaged file is an error and no reason to take the next set.
template <class eT>
Images<eT> load_first_images(const std::vector<ImageSet>& sets, const ImageOptions& options = {});

/// $XDG_CACHE_HOME/armagrad/NAME, or ~/.cache/armagrad/NAME; empty when the user has no home.
std::string image_cache(const ImageSet& set);

}  // namespace armagrad::data
