// Files read whole and written so that none is ever half there.
#pragma once

#include <cstddef>
#include <string>

namespace armagrad::detail {

/// The file's bytes.
/// @throws DataError "PATH cannot be read (REASON)."
std::string read_file(const std::string& path);

/// A file written under a temporary name beside its own. It takes its own name when it is whole and on the disk; until
/// then what stood there is untouched, and unless `publish` has succeeded the temporary file goes with this object.
///
/// All members throw DataError "PATH cannot be written (REASON); what was there is unchanged."; callers add the way
/// out.
class StagedFile {
 public:
  explicit StagedFile(const std::string& path);
  StagedFile(StagedFile&& other) noexcept;
  StagedFile(const StagedFile&) = delete;
  StagedFile& operator=(const StagedFile&) = delete;
  StagedFile& operator=(StagedFile&&) = delete;
  ~StagedFile();

  void write(const void* data, std::size_t bytes);
  /// Brings what was written to the disk, where a full one shows at the latest, and sees that no folder has the name.
  /// Nothing can be written after it.
  void finish();
  /// Finishes where that has not been done, and renames.
  void publish();

  const std::string& path() const { return path_; }

 private:
  [[noreturn]] void fail(int error) const;

  std::string path_, temporary_;
  int descriptor_;
};

}  // namespace armagrad::detail
