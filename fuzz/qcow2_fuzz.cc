// Any file as a qcow2 image: it is refused, or read, written, given a snapshot and repaired, and
// nothing outside it is touched. The file is in memory. A byte at the end says what is done; the
// header's magic is put right, so that more than one input in four billion gets past it.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <vector>

#include "base/log.h"
#include "block/qcow2/check.h"
#include "block/qcow2/image.h"

namespace {

using namespace limen;

constexpr size_t kLargestInput = size_t{1} << 20;

std::unique_ptr<block::FileLayer> open_file(int fd) {
  auto file = block::FileLayer::open(fmt::format("/proc/self/fd/{}", fd),
                                     {.cache = block::CacheMode::kUnsafe, .lock = false});
  if (!file) std::abort();
  return std::move(*file);
}

void use_image(block::qcow2::Image& image, uint8_t choice) {
  std::vector<std::byte> memory(128 << 10, std::byte{choice});
  const uint64_t size = image.size();
  // The beginning, the middle, the end.
  for (const uint64_t at :
       {uint64_t{0}, size / 2 / 512 * 512, size - std::min<uint64_t>(size, 4096)}) {
    const uint64_t length = std::min<uint64_t>(memory.size(), size - at);
    const iovec buffer = {memory.data(), static_cast<size_t>(length)};
    std::ignore = image.read(at, {&buffer, 1});
    if ((choice & 1) != 0) std::ignore = image.write(at, {&buffer, 1});
    if ((choice & 2) != 0 && length != 0)
      std::ignore = image.write_zeroes(at, length, (choice & 4) != 0);
    if ((choice & 8) != 0) std::ignore = image.discard(at, length);
    if (length != 0) std::ignore = image.extent(at, length);
  }
  if ((choice & 16) != 0) {
    std::ignore = image.create_snapshot("fuzz");
    std::ignore = image.apply_snapshot("fuzz");
    std::ignore = image.delete_snapshot("fuzz");
  }
  if ((choice & 32) != 0 && size < (uint64_t{1} << 30))
    std::ignore = image.resize(size + (1 << 20));
  std::ignore = image.flush();
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
  log::set_level(log::Level::kError);
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 80 || size > kLargestInput) return 0;
  const uint8_t choice = data[size - 1];
  const int fd = ::memfd_create("qcow2", MFD_CLOEXEC);
  if (fd < 0 || ::write(fd, data, size - 1) != static_cast<ssize_t>(size - 1) ||
      ::pwrite(fd, "QFI\xFB", 4, 0) != 4)
    std::abort();
  {
    auto image =
        block::qcow2::Image::open(open_file(fd), nullptr, {.read_only = (choice & 64) != 0});
    if (image) use_image(**image, choice);
  }
  if ((choice & 128) != 0) {
    const auto image = block::qcow2::Image::open(open_file(fd), nullptr, {.check_only = true});
    if (image)
      std::ignore =
          block::qcow2::check(**image, block::qcow2::Fix::kAll, [](const std::string&) {});
  }
  ::close(fd);
  return 0;
}
