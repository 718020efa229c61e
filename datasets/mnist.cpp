#include <algorithm>
#include <array>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <utility>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <armagrad/autodiff/error.hpp>
#include <armagrad/autodiff/file.hpp>
#include <armagrad/datasets/download.hpp>
#include <armagrad/datasets/idx.hpp>
#include <armagrad/datasets/mnist.hpp>

namespace armagrad::data {
namespace fs = std::filesystem;
namespace {

using Files = std::array<const ImageSet::File*, 4>;
Files files_of(const ImageSet& set) {
  return {&set.train_images, &set.train_labels, &set.test_images, &set.test_labels};
}

std::string names_of(const ImageSet& set) {
  std::vector<std::string> names;
  for (const auto* file : files_of(set)) names.push_back(file->name);
  return fmt::format("{}", fmt::join(names, ", "));
}

/// The file in that folder, unpacked or packed; empty when it is not there.
std::string find(const std::string& folder, const ImageSet::File& file) {
  for (const char* ending : {"", ".gz"}) {
    std::error_code none;
    const fs::path path = fs::path(folder) / (file.name + ending);
    if (fs::exists(path, none)) return path;
  }
  return {};
}

/// Whether the folder has all files (true) or none (false).
bool holds(const std::string& folder, const ImageSet& set) {
  std::vector<std::string> missing;
  for (const auto* file : files_of(set))
    if (find(folder, *file).empty()) missing.push_back(file->name);
  if (missing.empty() || missing.size() == 4) return missing.empty();
  throw DataError(
      fmt::format("{} holds only a part of {}: put {} there as well (plain or .gz), or name another folder.", folder,
                  set.title, fmt::join(missing, ", ")));
}

/// What is wrong with the content of a file; empty when nothing is or nothing is known of it.
std::string mismatch(const ImageSet::File& file, std::string_view unpacked) {
  if (file.sha256.empty()) return "";
  if (unpacked.size() != file.bytes)
    return fmt::format("{} bytes, unpacked, where {} are right", unpacked.size(), file.bytes);
  const std::string sum = detail::sha256(unpacked);
  if (sum.empty() || sum == file.sha256) return "";
  return fmt::format("SHA-256 {}..., unpacked, where {}... is right", sum.substr(0, 8), file.sha256.substr(0, 8));
}

/// The unpacked content; a file of known size is unpacked no further than one byte beyond it.
std::string content(const ImageSet::File& file, std::string bytes, const std::string& source) {
  if (!detail::is_gzip(bytes)) return bytes;
  return detail::gunzip(bytes, source, file.sha256.empty() ? bytes.max_size() : file.bytes + 1);
}

IdxArray read(const std::string& folder, const ImageSet& set, const ImageSet::File& file) {
  const std::string path = find(folder, file);
  const std::string bytes = content(file, armagrad::detail::read_file(path), path);
  const std::string wrong = mismatch(file, bytes);
  if (!wrong.empty())
    throw DataError(fmt::format(
        "{} is not {}'s {}: {}. It is damaged or of another set; remove it, then it is got anew, or name the set that "
        "it is of.",
        path, set.title, file.name, wrong));
  return parse_idx(bytes, path);
}

template <class eT>
Images<eT> read_all(const std::string& folder, const ImageSet& set, const std::string& from) {
  Images<eT> out;
  out.train = idx_dataset<eT>(read(folder, set, set.train_images), read(folder, set, set.train_labels), set.classes);
  out.test = idx_dataset<eT>(read(folder, set, set.test_images), read(folder, set, set.test_labels), set.classes);
  out.source = fmt::format("{} from {}", set.title, from);
  if (detail::sha256("").empty()) out.source += ", not checked (this build of armagrad lacks OpenSSL)";
  return out;
}

/// Gets what the cache lacks of a set; the reason when that cannot be done.
std::string fill(const std::string& cache, const ImageSet& set, const ImageOptions& options) {
  const Files files = files_of(set);
  if (!options.download) return "downloading is off";
  const bool known = std::none_of(files.begin(), files.end(), [](const auto* f) { return f->sha256.empty(); });
  if (set.mirrors.empty() || !known) return "no mirror of it is known";
  if (std::string why = detail::no_download(); !why.empty()) return why;
  std::error_code error;
  fs::create_directories(cache, error);
  if (error)
    throw DataError(
        fmt::format("{} cannot be made ({}). Set XDG_CACHE_HOME to a folder that can be written, or put the "
                    "files into a folder and name it.",
                    cache, error.message()));
  for (const auto* file : files) {
    if (!find(cache, *file).empty()) continue;
    detail::Download what;
    what.path = fs::path(cache) / (file->name + ".gz");
    for (const auto& mirror : set.mirrors) what.urls.push_back(mirror + file->name + ".gz");
    what.check = [&](const std::string& bytes) -> std::string {
      try {
        const std::string wrong = mismatch(*file, content(*file, bytes, file->name));
        return wrong.empty() ? "" : "it sends something else (" + wrong + ")";
      } catch (const DataError& damaged) {
        return fmt::format("it sends something else ({})", damaged.what());
      }
    };
    if (options.progress)
      what.progress = [&](std::uint64_t done, std::uint64_t total) {
        options.progress({file->name + ".gz", done, total});
      };
    if (std::string why = detail::download(what); !why.empty()) return why;
  }
  return "";
}

/// Either the images or, when the set is nowhere to be had, why.
template <class eT>
std::pair<std::optional<Images<eT>>, std::string> try_load(const ImageSet& set, const ImageOptions& options) {
  std::vector<std::string> searched;
  const auto look = [&](const std::string& folder) {
    if (!searched.empty() && std::find(searched.begin(), searched.end(), folder) != searched.end()) return false;
    searched.push_back(folder);
    return holds(folder, set);
  };
  if (!options.folder.empty()) {
    if (!fs::is_directory(options.folder))
      throw DataError(
          fmt::format("{} is no folder. Name one that holds {} (plain or .gz).", options.folder, names_of(set)));
    for (const std::string& folder : {options.folder, (fs::path(options.folder) / set.name).string()})
      if (look(folder)) return {read_all<eT>(folder, set, folder), ""};
  }
  const std::string cache = image_cache(set);
  std::string why = "there is no cache folder to download to: neither XDG_CACHE_HOME nor HOME is set";
  if (!cache.empty()) {
    searched.push_back(cache);  // what it lacks can be downloaded, so a part is no error
    const auto complete = [&] {
      const Files files = files_of(set);
      return std::none_of(files.begin(), files.end(), [&](const auto* f) { return find(cache, *f).empty(); });
    };
    if (complete()) return {read_all<eT>(cache, set, cache), ""};
  }
  if (!set.package_folder.empty() && look(set.package_folder))
    return {
        read_all<eT>(set.package_folder, set,
                     set.package.empty() ? set.package_folder
                                         : fmt::format("the Debian package {} ({})", set.package, set.package_folder)),
        ""};
  if (!cache.empty()) {
    why = fill(cache, set, options);
    if (why.empty()) return {read_all<eT>(cache, set, cache), ""};
  }
  return {std::nullopt,
          fmt::format("{} is not in {} and was not downloaded ({})", set.title, fmt::join(searched, ", nor in "), why)};
}

std::string way_out(const ImageSet& set) {
  const std::string cache = image_cache(set);
  return fmt::format("Put {} (plain or .gz) into {}.", names_of(set),
                     cache.empty() ? "a folder and name it" : cache + ", or into a folder and name it");
}

}  // namespace

const ImageSet& mnist() {
  static const ImageSet set{
      "MNIST",
      "mnist",
      10,
      {"train-images-idx3-ubyte", "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db", 47040016},
      {"train-labels-idx1-ubyte", "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5", 60008},
      {"t10k-images-idx3-ubyte", "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7", 7840016},
      {"t10k-labels-idx1-ubyte", "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2", 10008},
      {"https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"},
      "",
      ""};
  return set;
}

const ImageSet& fashion_mnist() {
  static const ImageSet set{
      "Fashion-MNIST",
      "fashion-mnist",
      10,
      {"train-images-idx3-ubyte", "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888", 47040016},
      {"train-labels-idx1-ubyte", "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9", 60008},
      {"t10k-images-idx3-ubyte", "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b", 7840016},
      {"t10k-labels-idx1-ubyte", "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34", 10008},
      {"http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/"},
      "dataset-fashion-mnist",
      "/usr/share/datasets/fashion-mnist"};
  return set;
}

const ImageSet& image_set(const std::string& name) {
  for (const ImageSet* set : {&mnist(), &fashion_mnist()})
    if (set->name == name) return *set;
  throw OptionError(fmt::format("there is no set of images \"{}\"; there are mnist and fashion-mnist.", name));
}

std::string image_cache(const ImageSet& set) {
  const char* cache = std::getenv("XDG_CACHE_HOME");
  if (cache != nullptr && cache[0] == '/') return fs::path(cache) / "armagrad" / set.name;
  const char* home = std::getenv("HOME");
  if (home == nullptr || home[0] != '/') return {};
  return fs::path(home) / ".cache" / "armagrad" / set.name;
}

template <class eT>
Images<eT> load_images(const ImageSet& set, const ImageOptions& options) {
  return load_first_images<eT>({set}, options);
}

template <class eT>
Images<eT> load_first_images(const std::vector<ImageSet>& sets, const ImageOptions& options) {
  if (sets.empty()) throw OptionError("load_first_images: there must be at least one set");
  std::vector<std::string> reasons;
  for (const ImageSet& set : sets) {
    auto [images, reason] = try_load<eT>(set, options);
    if (images && !reasons.empty()) images->source += fmt::format(", because {}", fmt::join(reasons, ", and "));
    if (images) return std::move(*images);
    reasons.push_back(reason);
  }
  throw DataError(fmt::format("{}. {}", fmt::join(reasons, ", and "), way_out(sets.front())));
}

template Images<float> load_images(const ImageSet&, const ImageOptions&);
template Images<double> load_images(const ImageSet&, const ImageOptions&);
template Images<float> load_first_images(const std::vector<ImageSet>&, const ImageOptions&);
template Images<double> load_first_images(const std::vector<ImageSet>&, const ImageOptions&);

}  // namespace armagrad::data
