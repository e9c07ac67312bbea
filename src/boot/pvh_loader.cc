// The Xen PVH boot protocol (xen/include/public/arch-x86/hvm/start_info.h, version 1), with which
// ELF kernels start without firmware or real mode.
#include <vector>

#include "boot/little_endian.h"
#include "boot/loaders.h"

namespace limen::boot {
namespace {

constexpr uint32_t kStartInfoMagic = 0x336E'C578;
constexpr uint32_t kStartInfoVersion = 1;
constexpr uint16_t kCodeSelector = 0x08;

}  // namespace

Result<LoadedGuest> load_pvh(const LoadContext& context, const ElfImage& elf, uint32_t entry) {
  LIMEN_TRY(load_segments(context, elf));

  std::vector<std::byte> module_list;
  for (const auto& module : context.modules) {
    append(module_list, LIMEN_TRY(place_module(context, module, kHighRamStart)));
    append(module_list, uint64_t{module.bytes.size()});
    append(module_list, uint64_t{0});  // no command line of its own
    append(module_list, uint64_t{0});
  }
  std::vector<std::byte> map;
  for (const auto& range : context.request.e820) {
    append(map, range.start.value);
    append(map, range.size);
    append(map, static_cast<uint32_t>(range.type));
    append(map, uint32_t{0});
  }

  std::vector<std::byte> info;
  append(info, kStartInfoMagic);
  append(info, kStartInfoVersion);
  append(info, uint32_t{0});  // flags
  append(info, static_cast<uint32_t>(context.modules.size()));
  append(info, LIMEN_TRY(place_bytes(context, module_list, "PVH module list")));
  append(info, LIMEN_TRY(place_string(context, context.request.command_line, "command line")));
  append(info, context.request.rsdp.value);
  append(info, LIMEN_TRY(place_bytes(context, map, "PVH memory map")));
  append(info, static_cast<uint32_t>(context.request.e820.size()));
  append(info, uint32_t{0});
  const uint64_t start_info = LIMEN_TRY(place_bytes(context, info, "PVH start info"));

  LoadedGuest guest{.protocol = Protocol::kPvh, .cpu = {}};
  const uint64_t gdt = LIMEN_TRY(place_structure(context, kGdtSize, 16, "GDT"));
  guest.cpu = LIMEN_TRY(flat_cpu(context, gdt, kCodeSelector));
  guest.cpu.rip = entry;
  guest.cpu.gpr[x86::kRbx] = start_info;
  return guest;
}

}  // namespace limen::boot
