// Any files as a NoCloud seed: what is made reads back as what went in, through another's reader of
// ISO 9660; what is refused is refused with a message.
#include <archive.h>
#include <archive_entry.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "cloud/nocloud_seed.h"

namespace {

struct FreeArchive {
  void operator()(archive* a) const { archive_read_free(a); }
};

std::map<std::string, std::string> files_of(const std::vector<uint8_t>& image) {
  std::map<std::string, std::string> files;
  const std::unique_ptr<archive, FreeArchive> in(archive_read_new());
  archive_read_support_format_iso9660(in.get());
  if (archive_read_open_memory(in.get(), image.data(), image.size()) != ARCHIVE_OK) std::abort();
  archive_entry* entry = nullptr;
  while (archive_read_next_header(in.get(), &entry) == ARCHIVE_OK) {
    if (archive_entry_filetype(entry) != AE_IFREG) continue;
    std::string content(static_cast<size_t>(archive_entry_size(entry)), '\0');
    if (archive_read_data(in.get(), content.data(), content.size()) !=
        static_cast<la_ssize_t>(content.size()))
      std::abort();
    files[archive_entry_pathname(entry)] = std::move(content);
  }
  return files;
}

void expect(bool condition) {
  if (!condition) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  // The first byte says what there is; a byte FFH ends a file (no text has one).
  if (size == 0) return 0;
  const uint8_t flags = data[0];
  std::array<std::string, 5> parts;
  size_t part = 0;
  for (size_t i = 1; i < size; ++i) {
    if (data[i] == 0xFF && part + 1 < parts.size())
      ++part;
    else
      parts[part] += static_cast<char>(data[i]);
  }
  limen::cloud::NoCloudSeed seed{.user_data = parts[0], .meta_data = parts[1]};
  if ((flags & 1) != 0) seed.user_data.insert(0, "#cloud-config\n");
  if ((flags & 2) != 0) seed.network_config = parts[2];
  if ((flags & 4) != 0) seed.vendor_data = "#!" + parts[3];
  if ((flags & 8) != 0) seed.host_name = parts[4];
  if ((flags & 16) != 0) seed.meta_data.insert(0, "instance-id: i\n");

  const auto image = limen::cloud::make_image(seed);
  if (!image) {
    expect(!image.error().message.empty());
    expect(!limen::cloud::check(seed));
    return 0;
  }
  constexpr size_t kSector = 2048, kVolumeDescriptor = 16 * kSector, kLabel = 40;  // ECMA-119 8.4
  expect(image->size() % kSector == 0 && image->size() > kVolumeDescriptor + kSector);
  const std::string label(image->begin() + kVolumeDescriptor + kLabel,
                          image->begin() + kVolumeDescriptor + kLabel + 6);
  expect(label == "CIDATA" || label == "cidata");  // cloud-init takes both
  const auto files = files_of(*image);
  expect(files.at("user-data") == seed.user_data);
  expect(files.at("meta-data") ==
         (seed.meta_data.empty() ? limen::cloud::default_meta_data(seed) : seed.meta_data));
  expect(files.contains("network-config") == seed.network_config.has_value());
  if (seed.network_config) expect(files.at("network-config") == *seed.network_config);
  expect(files.contains("vendor-data") == seed.vendor_data.has_value());
  if (seed.vendor_data) expect(files.at("vendor-data") == *seed.vendor_data);
  return 0;
}
