// Any file that a person can name with -kernel: the loaders either refuse it or leave a processor
// that points into RAM, and never write outside it. The first byte says how the rest is used: as it
// is, or with a bzImage, ELF or Multiboot magic put where the format wants it.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "boot/kernel_loader.h"
#include "boot/memory_map.h"

namespace {

using namespace limen;

constexpr uint64_t kMemory = uint64_t{8} << 20;

memory::GuestMemory& ram() {
  static auto memory = *memory::GuestMemory::create(*boot::ram_layout(kMemory));
  return *memory;
}

void require(bool condition) {
  if (!condition) std::abort();
}

void put(std::vector<std::byte>& file, size_t offset, uint32_t value) {
  if (file.size() >= offset + sizeof value) std::memcpy(&file[offset], &value, sizeof value);
}

void put_magic(std::vector<std::byte>& file, unsigned choice) {
  constexpr size_t kMultibootAt = 256;
  switch (choice % 5) {
    case 1:
      put(file, 0x1FE, 0x00EB'AA55);
      put(file, 0x202, 0x5372'6448);
      break;
    case 2:
    case 3:
      put(file, 0, 0x464C'457F);
      if (file.size() > 20) {
        file[4] = static_cast<std::byte>(choice % 5 - 1);
        file[5] = std::byte{1};
        file[18] = std::byte{3};
        file[19] = std::byte{0};
      }
      break;
    case 4:
      if (file.size() > kMultibootAt + 12) {
        uint32_t flags;
        std::memcpy(&flags, &file[kMultibootAt + 4], sizeof flags);
        put(file, kMultibootAt, 0x1BAD'B002);
        put(file, kMultibootAt + 8, 0u - 0x1BAD'B002 - flags);
      }
      break;
    default:
      break;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  std::vector<std::byte> file(size - 1);
  if (size > 1) std::memcpy(file.data(), data + 1, size - 1);
  put_magic(file, data[0]);
  static const std::vector<std::byte> initrd(5000);
  const std::vector<boot::Module> modules = {{"initrd", "initrd", initrd}};
  const boot::LoadRequest request{.kernel = "kernel",
                                  .initrd = "",
                                  .command_line = "console=ttyS0",
                                  .e820 = boot::e820_map(ram()),
                                  .rsdp = {0xF0000}};
  const auto guest = boot::load_kernel_image(ram(), request, file, modules);
  if (!guest) {
    require(!guest.error().message.empty());
    return 0;
  }
  require(!ram().span({guest->cpu.system.gdtr.base}, guest->cpu.system.gdtr.limit + 1u).empty());
  if (guest->protocol == boot::Protocol::kLinux64) {
    require(!ram().span({guest->cpu.system.cr3}, 4096).empty());
    require(!ram().span({guest->cpu.rip}, 1).empty());
  }
  return 0;
}
