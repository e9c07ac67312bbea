// The file behind an image: opened with a check of what it is, and locked so that no two processes
// write it.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"
#include "base/unique_fd.h"

namespace limen::block {

inline constexpr uint64_t kSectorSize = 512;

struct ImageFile {
  UniqueFd fd;
  uint64_t size = 0;         ///< Bytes; of a block device, its capacity.
  uint64_t allocated = 0;    ///< Bytes that the file takes on its file system.
  bool regular_file = true;  ///< false: a block device.
};

/// open(2) with `flags`, plus O_CLOEXEC. Errors name the path: missing, unreadable, a directory,
/// neither file nor block device, O_DIRECT refused.
Result<ImageFile> open_image_file(const std::string& path, int flags);

enum class Access : uint8_t {
  kExamine,  ///< Looks at the size and the like; anyone may write meanwhile.
  kRead,     ///< Reads; nobody may write.
  kWrite,    ///< Reads and writes; nobody else may write, and readers of the kind above stay out.
};

/// Takes QEMU's locks on an image: a shared lock on byte 100+i for each permission i that is used,
/// and on 200+i for each that no other process may use. Held until the file is closed. Fails when
/// another process, QEMU's included, holds it in a way that conflicts. A file system without locks
/// gives a warning.
Result<> lock_image(const ImageFile& file, const std::string& path, Access access);

}  // namespace limen::block
