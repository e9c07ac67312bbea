#include "cli/cloud_options.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>

#include "block/image_file.h"
#include "cloud/nocloud_seed.h"
#include "cloud/partition_table.h"

namespace limen::cli {
namespace {

Result<> write_all(int fd, const std::vector<uint8_t>& bytes, const std::string& what) {
  for (size_t done = 0; done < bytes.size();) {
    const ssize_t count = write(fd, bytes.data() + done, bytes.size() - done);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return fail_errno(errno, fmt::format("cannot write {}", what));
    done += static_cast<size_t>(count);
  }
  return {};
}

}  // namespace

bool SeedWords::given() const {
  return !(user_data.empty() && meta_data.empty() && network_config.empty() &&
           vendor_data.empty() && host_name.empty());
}

void add_seed_options(CLI::App& command, SeedWords& words) {
  command.add_option("--user-data", words.user_data, "what cloud-init is to do: #cloud-config, #!")
      ->type_name("FILE");
  command.add_option("--meta-data", words.meta_data, "instance-id and local-hostname")
      ->type_name("FILE");
  command.add_option("--network-config", words.network_config, "the guest's network (netplan)")
      ->type_name("FILE");
  command.add_option("--vendor-data", words.vendor_data, "as user data, before it")
      ->type_name("FILE");
  command.add_option("--hostname", words.host_name, "the guest's name, without --meta-data")
      ->type_name("NAME");
}

Result<std::vector<uint8_t>> make_seed(const SeedWords& words) {
  cloud::NoCloudSeed seed{.host_name = words.host_name};
  if (!words.user_data.empty()) seed.user_data = LIMEN_TRY(cloud::read_seed_file(words.user_data));
  if (!words.meta_data.empty()) seed.meta_data = LIMEN_TRY(cloud::read_seed_file(words.meta_data));
  if (!words.network_config.empty())
    seed.network_config = LIMEN_TRY(cloud::read_seed_file(words.network_config));
  if (!words.vendor_data.empty())
    seed.vendor_data = LIMEN_TRY(cloud::read_seed_file(words.vendor_data));
  return cloud::make_image(seed);
}

Result<> write_seed(const SeedWords& words, const std::string& path) {
  const auto bytes = LIMEN_TRY(make_seed(words));
  // Not emptied before it is locked: a machine may be reading it.
  const auto file = LIMEN_TRY(block::open_image_file(path, O_RDWR | O_CREAT));
  LIMEN_TRY(block::lock_image(file, path, block::Access::kWrite));
  if (file.regular_file && ftruncate(file.fd.get(), 0) != 0)
    return fail_errno(errno, fmt::format("cannot empty '{}'", path));
  return write_all(file.fd.get(), bytes, fmt::format("'{}'", path));
}

Result<UniqueFd> seed_in_memory(const SeedWords& words) {
  const auto bytes = LIMEN_TRY(make_seed(words));
  UniqueFd fd(memfd_create("limen-seed", MFD_CLOEXEC));
  if (!fd.valid()) return fail_errno(errno, "cannot make memory for the seed");
  LIMEN_TRY(write_all(fd.get(), bytes, "the seed"));
  return fd;
}

Result<std::string> root_on(const std::string& disk) {
  const auto file = LIMEN_TRY(block::open_image_file(disk, O_RDONLY));
  const cloud::DiskReader reader{
      .size = file.size, .read = [&](uint64_t offset, std::span<uint8_t> bytes) -> Result<> {
        const ssize_t count =
            pread(file.fd.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset));
        if (count == static_cast<ssize_t>(bytes.size())) return {};
        return fail_errno(count < 0 ? errno : EIO, fmt::format("cannot read '{}'", disk));
      }};
  const auto partitions = cloud::read_partitions(reader);
  if (!partitions) return fail("'{}': {}", disk, partitions.error().message);
  if (!*partitions) return "/dev/vda";
  const auto* root = cloud::find_root(**partitions);
  if (root == nullptr)
    return fail("'{}' has a partition table without a Linux file system; name the root by --append",
                disk);
  return fmt::format("PARTUUID={}", root->id);
}

}  // namespace limen::cli
