#include "cli/disk_options.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <array>
#include <cstring>

#include "block/file_layer.h"
#include "block/open_image.h"
#include "block/probe.h"
#include "cloud/partition_table.h"
#include "qemu/key_values.h"

namespace limen::cli {

Result<machine::DriveDescription> parse_disk(const std::string& words) {
  const auto values = LIMEN_TRY(qemu::KeyValues::parse(words, "file"));
  constexpr std::array<std::string_view, 2> kKnown = {"file", "format"};
  constexpr std::array<std::string_view, 2> kFormats = {"raw", "qcow2"};
  LIMEN_TRY(values.check(kKnown));
  machine::DriveDescription disk;
  disk.file = values.text("file");
  if (values.find("format")) {
    disk.format = LIMEN_TRY(values.choice("format", kFormats, "raw"));
    return disk;
  }
  disk.format = disk.file.ends_with(".qcow2") ? "qcow2" : "raw";
  if (disk.format == "qcow2") return disk;
  const auto file =
      LIMEN_TRY(block::FileLayer::open(disk.file, {.read_only = true, .lock = false}));
  const auto found = LIMEN_TRY(block::probe_format(*file));
  if (found != "raw")
    return fail(
        "--disk {}: looks like a {} image; write --disk {},format={}, or format=raw if it "
        "is none",
        disk.file, found, disk.file, found);
  return disk;
}

Result<std::string> root_on(const machine::DriveDescription& disk) {
  const auto image = LIMEN_TRY(block::open_layer(
      disk.file, {.file = {.read_only = true, .lock = false}, .format = disk.format}));
  const cloud::DiskReader reader{
      .size = image->size(), .read = [&](uint64_t offset, std::span<uint8_t> bytes) -> Result<> {
        const iovec buffer{bytes.data(), bytes.size()};
        const int error = image->read(offset, std::span(&buffer, 1));
        if (error != 0) return fail_errno(error, fmt::format("cannot read '{}'", disk.file));
        return {};
      }};
  const auto partitions = cloud::read_partitions(reader);
  if (!partitions) return fail("'{}': {}", disk.file, partitions.error().message);
  if (!*partitions) return "/dev/vda";
  const auto* root = cloud::find_root(**partitions);
  if (root == nullptr)
    return fail("'{}' has a partition table without a Linux file system; name the root by --append",
                disk.file);
  return fmt::format("PARTUUID={}", root->id);
}

}  // namespace limen::cli
