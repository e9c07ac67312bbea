#include "block/probe.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "base/nearest.h"

namespace limen::block {
namespace {

using namespace std::string_view_literals;

struct Sign {
  std::string_view format;
  size_t offset;
  std::string_view bytes;
};
// The versions of QCOW are told apart below.
constexpr std::array<Sign, 9> kSigns = {{
    {"qcow2", 0, "QFI\xFB"sv},
    {"vmdk", 0, "KDMV"sv},
    {"vmdk", 0, "COWD"sv},
    {"vmdk", 0, "# Disk DescriptorFile"sv},
    {"vdi", 0x40, "\x7F\x10\xDA\xBE"sv},
    {"vhdx", 0, "vhdxfile"sv},
    {"vpc", 0, "conectix"sv},
    {"qed", 0, "QED\0"sv},
    {"luks", 0, "LUKS\xBA\xBE"sv},
}};
constexpr std::array<std::string_view, 8> kRefused = {"vmdk", "vdi", "vhdx", "vpc",
                                                      "qcow", "qed", "luks", "parallels"};
constexpr std::array<std::string_view, 2> kSupported = {"raw", "qcow2"};

}  // namespace

std::string probe_format(std::span<const std::byte> start) {
  for (const auto& sign : kSigns) {
    if (start.size() < sign.offset + sign.bytes.size() ||
        std::memcmp(&start[sign.offset], sign.bytes.data(), sign.bytes.size()) != 0)
      continue;
    if (sign.format == "qcow2" && start.size() >= 8 && start[7] == std::byte{1}) return "qcow";
    return std::string(sign.format);
  }
  return "raw";
}

Result<std::string> probe_format(FileLayer& file) {
  std::vector<std::byte> start(static_cast<size_t>(std::min<uint64_t>(512, file.file_size())));
  if (const int error = file.read_bytes(0, start); error != 0)
    return fail_errno(error, fmt::format("reading the start of image '{}'", file.path()));
  return probe_format(start);
}

Result<> check_format_supported(std::string_view format, const std::string& path) {
  if (std::ranges::find(kSupported, format) != kSupported.end()) return {};
  if (std::ranges::find(kRefused, format) != kRefused.end())
    return fail(
        "image '{}' is in {} format, which is not supported; convert it first, on a machine that "
        "has "
        "qemu-img: qemu-img convert -O qcow2 IN OUT",
        path, format);
  return fail("Unknown driver '{}'{}", format, choice_hint(format, kSupported));
}

}  // namespace limen::block
