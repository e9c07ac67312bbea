#include "block/image_file.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <cerrno>

#include "base/fd_sets.h"
#include "base/log.h"

namespace limen::block {
namespace {

// Permissions on an image, as bit numbers; the byte that stands for one is the base plus the number
// (QEMU's docs/system/qemu-block-drivers, "Disk image file locking").
constexpr unsigned kRead = 1u << 0, kWrite = 1u << 1;
constexpr off_t kUsedBase = 100;
constexpr off_t kNotSharedBase = 200;
constexpr unsigned kPermissions = 2;

struct flock one_byte(short type, off_t byte) {
  struct flock lock {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = byte;
  lock.l_len = 1;
  return lock;
}

bool no_locks_here(int error) {
  return error == ENOLCK || error == ENOSYS || error == EOPNOTSUPP || error == EINVAL;
}

Result<> hold(int fd, off_t byte) {
  auto lock = one_byte(F_RDLCK, byte);
  if (::fcntl(fd, F_OFD_SETLK, &lock) == 0) return {};
  return fail_errno(errno, "");
}

bool held_by_another(int fd, off_t byte) {
  auto lock = one_byte(F_WRLCK, byte);
  return ::fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

/// In QEMU's words, which scripts look for.
std::unexpected<Error> in_use(const std::string& path, bool writing) {
  return fail("Failed to get {} lock: is another process using the image '{}'?",
              writing ? "\"write\"" : "shared \"write\"", path);
}

}  // namespace

Result<ImageFile> open_image_file(const std::string& path, int flags) {
  ImageFile file;
  // O_NONBLOCK: opening a FIFO must not wait for its other end.
  file.fd = open_file(path, flags | O_NONBLOCK, 0644);
  if (!file.fd.valid()) {
    const int error = errno;
    if (error == EISDIR) return fail("image '{}' is a directory, expected a file", path);
    if (error == EINVAL && (flags & O_DIRECT) != 0)
      return fail(
          "image '{}' cannot be opened with O_DIRECT: its file system refuses (use cache=writeback "
          "or cache=writethrough)",
          path);
    const bool writing = (flags & O_ACCMODE) == O_RDWR && error != ENOENT;
    return fail_errno(error,
                      fmt::format("Could not open '{}'{}", path, writing ? " to write" : ""));
  }
  struct stat status {};
  if (::fstat(file.fd.get(), &status) != 0)
    return fail_errno(errno, fmt::format("examining image '{}'", path));
  if (S_ISDIR(status.st_mode)) return fail("image '{}' is a directory, expected a file", path);
  if (S_ISREG(status.st_mode)) {
    file.size = static_cast<uint64_t>(status.st_size);
    file.allocated = static_cast<uint64_t>(status.st_blocks) * 512;
    return file;
  }
  if (!S_ISBLK(status.st_mode))
    return fail("image '{}' is neither a regular file nor a block device", path);
  file.regular_file = false;
  if (::ioctl(file.fd.get(), BLKGETSIZE64, &file.size) != 0)
    return fail_errno(errno, fmt::format("reading the size of block device '{}'", path));
  return file;
}

Result<> lock_image(const ImageFile& file, const std::string& path, Access access) {
  const int fd = file.fd.get();
  const unsigned uses = access == Access::kWrite ? kRead | kWrite : kRead;
  const unsigned not_shared = access == Access::kExamine ? 0 : kWrite;
  for (unsigned i = 0; i < kPermissions; ++i) {
    for (const off_t base : {kUsedBase, kNotSharedBase}) {
      if (((base == kUsedBase ? uses : not_shared) & (1u << i)) == 0) continue;
      const auto held = hold(fd, base + static_cast<off_t>(i));
      if (held) continue;
      const int error = held.error().system_errno;
      if (no_locks_here(error)) {
        log::warning(
            "image '{}' cannot be locked on its file system: nothing keeps another process "
            "from writing it",
            path);
        return {};
      }
      if (error != EAGAIN && error != EACCES)
        return fail_errno(error, fmt::format("locking image '{}'", path));
      return in_use(path, access == Access::kWrite);
    }
  }
  // All held; now see whether someone was there before. Two that come at once may both give up.
  for (unsigned i = 0; i < kPermissions; ++i) {
    const auto bit = static_cast<off_t>(i);
    if ((uses & (1u << i)) != 0 && held_by_another(fd, kNotSharedBase + bit))
      return in_use(path, access == Access::kWrite);
    if ((not_shared & (1u << i)) != 0 && held_by_another(fd, kUsedBase + bit))
      return in_use(path, false);
  }
  return {};
}

}  // namespace limen::block
