#include "boot/kernel_loader.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <optional>

#include "base/unique_fd.h"
#include "boot/little_endian.h"
#include "boot/loaders.h"

namespace limen::boot {
namespace {

constexpr uint32_t kNotePhys32Entry = 18;  // XEN_ELFNOTE_PHYS32_ENTRY
constexpr size_t kBootFlagOffset = 0x1FE;

enum class Format { kLinux, kPvh, kMultiboot };

struct Detected {
  Format format = Format::kLinux;
  std::optional<ElfImage> elf;
  uint32_t pvh_entry = 0;
  size_t multiboot_header = 0;
};

Result<std::optional<uint32_t>> pvh_entry(const ElfImage& elf, std::string_view path) {
  const auto note = find_note(elf, "Xen", kNotePhys32Entry);
  if (!note) return std::nullopt;
  if (note->size() == 4) return field<uint32_t>(*note, 0);
  if (note->size() != 8)
    return fail("kernel '{}' is corrupt: PVH entry note has {} bytes, expected 4 or 8", path,
                note->size());
  const auto entry = field<uint64_t>(*note, 0);
  if (entry > UINT32_MAX)
    return fail("kernel '{}' is corrupt: PVH entry {:#x} is above 4 GiB", path, entry);
  return static_cast<uint32_t>(entry);
}

std::string first_bytes(std::span<const std::byte> file) {
  std::string text;
  for (const auto byte : file.first(std::min<size_t>(file.size(), 4)))
    text += fmt::format("{}{:02x}", text.empty() ? "" : " ", static_cast<uint8_t>(byte));
  return text;
}

Result<Detected> detect(std::span<const std::byte> kernel, std::string_view path) {
  Detected detected;
  if (kernel.empty()) return fail("kernel '{}' is empty: 0 bytes", path);
  if (is_linux(kernel)) return detected;
  if (is_elf(kernel)) detected.elf = LIMEN_TRY(parse_elf(kernel, path));
  const auto multiboot = find_multiboot_header(kernel);
  std::optional<uint32_t> pvh;
  if (detected.elf) pvh = LIMEN_TRY(pvh_entry(*detected.elf, path));
  // As QEMU: Multiboot goes first where both are possible.
  if (multiboot && !(pvh && detected.elf->is_64_bit)) {
    detected.format = Format::kMultiboot;
    detected.multiboot_header = *multiboot;
    return detected;
  }
  if (pvh) {
    detected.format = Format::kPvh;
    detected.pvh_entry = *pvh;
    return detected;
  }
  if (detected.elf)
    return fail("kernel '{}' is ELF without a PVH entry note or a Multiboot header", path);
  if (kernel.size() < kBootFlagOffset + 2)
    return fail(
        "kernel '{}' is truncated or not a kernel: {} bytes, a bzImage has more than {} and an ELF "
        "file begins with 7f 45 4c 46, this one with {}",
        path, kernel.size(), kBootFlagOffset + 2, first_bytes(kernel));
  return fail(
      "kernel '{}' has no known format: boot flag at {:#x} is {:#06x}, expected 0xaa55 with 'HdrS' "
      "behind it (bzImage); first bytes are {}, expected 7f 45 4c 46 (ELF); no Multiboot header",
      path, kBootFlagOffset, field<uint16_t>(kernel, kBootFlagOffset), first_bytes(kernel));
}

Result<LoadedGuest> load_detected(memory::GuestMemory& memory, const LoadRequest& request,
                                  std::span<const std::byte> kernel,
                                  std::span<const Module> modules, const Detected& detected) {
  Placement placement(memory, request.e820);
  const LoadContext context{memory, request, kernel, modules, placement};
  switch (detected.format) {
    case Format::kLinux:
      return load_linux(context);
    case Format::kPvh:
      return load_pvh(context, *detected.elf, detected.pvh_entry);
    case Format::kMultiboot:
      return load_multiboot(context, detected.multiboot_header,
                            detected.elf ? &*detected.elf : nullptr);
  }
  return fail("kernel '{}' has no known format", request.kernel);
}

/// All of a regular file. `role` names it in errors; more than `limit` bytes cannot fit in RAM.
Result<std::vector<std::byte>> read_file(std::string_view role, const std::string& path,
                                         uint64_t limit) {
  const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!file.valid()) return fail_errno(errno, fmt::format("opening {} '{}'", role, path));
  struct stat status {};
  if (::fstat(file.get(), &status) != 0)
    return fail_errno(errno, fmt::format("examining {} '{}'", role, path));
  if (S_ISDIR(status.st_mode)) return fail("{} '{}' is a directory, expected a file", role, path);
  if (!S_ISREG(status.st_mode)) return fail("{} '{}' is not a regular file", role, path);
  if (status.st_size == 0) return fail("{} '{}' is empty: 0 bytes", role, path);
  const auto size = static_cast<uint64_t>(status.st_size);
  if (size > limit)
    return fail("{} '{}' of {} bytes does not fit in {} bytes of guest memory", role, path, size,
                limit);
  std::vector<std::byte> bytes(static_cast<size_t>(size));
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t count = ::read(file.get(), bytes.data() + done, bytes.size() - done);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return fail_errno(errno, fmt::format("reading {} '{}'", role, path));
    if (count == 0)
      return fail("{} '{}' shrank while it was read: {} bytes, expected {}", role, path, done,
                  size);
    done += static_cast<size_t>(count);
  }
  return bytes;
}

/// QEMU's list for Multiboot: "path arguments,path arguments", with ",," for a comma.
std::vector<std::string> split_modules(std::string_view list) {
  std::vector<std::string> entries(1);
  for (size_t i = 0; i < list.size(); ++i) {
    if (list[i] != ',') {
      entries.back() += list[i];
    } else if (i + 1 < list.size() && list[i + 1] == ',') {
      entries.back() += ',';
      ++i;
    } else {
      entries.emplace_back();
    }
  }
  return entries;
}

}  // namespace

std::string_view protocol_name(Protocol protocol) {
  switch (protocol) {
    case Protocol::kLinux64:
      return "Linux 64-bit";
    case Protocol::kLinux32:
      return "Linux 32-bit";
    case Protocol::kPvh:
      return "PVH";
    case Protocol::kMultiboot:
      return "Multiboot";
  }
  return "unknown";
}

Result<> load_segments(const LoadContext& context, const ElfImage& elf) {
  for (const auto& segment : elf.segments) {
    if (!context.placement.take(segment.physical_address, segment.memory_size))
      return fail(
          "kernel '{}' does not fit in {} bytes of guest memory: its segment of {} bytes at {:#x} "
          "is "
          "not all free RAM below {:#x}",
          context.request.kernel, context.memory.size(), segment.memory_size,
          segment.physical_address, kHighRamStart);
    LIMEN_TRY(context.memory.write({segment.physical_address}, segment.bytes));
    const uint64_t rest = segment.memory_size - segment.bytes.size();
    const GuestPhysicalAddress bss{segment.physical_address + segment.bytes.size()};
    const auto zeroes = context.memory.span(bss, rest);
    std::ranges::fill(zeroes, std::byte{0});
    context.memory.note_written(bss, zeroes.size());
  }
  return {};
}

Result<LoadedGuest> load_kernel_image(memory::GuestMemory& memory, const LoadRequest& request,
                                      std::span<const std::byte> kernel,
                                      std::span<const Module> modules) {
  const auto detected = LIMEN_TRY(detect(kernel, request.kernel));
  return load_detected(memory, request, kernel, modules, detected);
}

Result<LoadedGuest> load_kernel(memory::GuestMemory& memory, const LoadRequest& request) {
  const auto kernel = LIMEN_TRY(read_file("kernel", request.kernel, memory.size()));
  const auto detected = LIMEN_TRY(detect(kernel, request.kernel));
  std::vector<std::vector<std::byte>> contents;
  std::vector<Module> modules;
  if (!request.initrd.empty()) {
    const bool is_list = detected.format == Format::kMultiboot;
    for (const auto& entry :
         is_list ? split_modules(request.initrd) : std::vector{request.initrd}) {
      const std::string path = is_list ? entry.substr(0, entry.find(' ')) : entry;
      contents.push_back(LIMEN_TRY(read_file("initrd", path, memory.size())));
      modules.push_back({path, entry, {}});
    }
    for (size_t i = 0; i < modules.size(); ++i) modules[i].bytes = contents[i];
  }
  return load_detected(memory, request, kernel, modules, detected);
}

}  // namespace limen::boot
