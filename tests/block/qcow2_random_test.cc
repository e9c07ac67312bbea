// Random reads, writes, zeroes, discards and snapshots, several at once, against a copy in memory;
// then qemu-img has a look.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <future>
#include <map>
#include <random>

#include "block/layer_device.h"
#include "block/qcow2_scratch.h"

namespace limen::block {
namespace {

struct Case {
  std::string name;
  qcow2::CreateOptions options;
  bool backing = false;
  bool snapshots = true;
  bool on_disk = false;
};

void PrintTo(const Case& chosen, std::ostream* out) { *out << chosen.name; }

std::vector<Case> cases() {
  const uint64_t odd = (uint64_t{5} << 20) + 512 * 7;
  return {
      {.name = "Plain", .options = {.size = odd}, .on_disk = true},
      {.name = "Backing", .options = {.size = odd}, .backing = true, .on_disk = true},
      {.name = "Version2", .options = {.size = odd, .version = 2}},
      {.name = "Version2Backing", .options = {.size = odd, .version = 2}, .backing = true},
      {.name = "SmallestClusters", .options = {.size = odd, .cluster_size = 512}, .backing = true},
      {.name = "LargestClusters",
       .options = {.size = odd, .cluster_size = 2 << 20},
       .backing = true},
      {.name = "Refcounts1",
       .options = {.size = odd, .cluster_size = 4096, .refcount_bits = 1},
       .snapshots = false},
      {.name = "Refcounts2", .options = {.size = odd, .cluster_size = 4096, .refcount_bits = 2}},
      {.name = "Refcounts4", .options = {.size = odd, .cluster_size = 4096, .refcount_bits = 4}},
      {.name = "Refcounts8", .options = {.size = odd, .cluster_size = 4096, .refcount_bits = 8}},
      {.name = "Refcounts32", .options = {.size = odd, .cluster_size = 1024, .refcount_bits = 32}},
      {.name = "Refcounts64", .options = {.size = odd, .cluster_size = 512, .refcount_bits = 64}},
      {.name = "Subclusters", .options = {.size = odd, .extended_l2 = true}},
      {.name = "SubclustersBacking",
       .options = {.size = odd, .cluster_size = 16384, .extended_l2 = true},
       .backing = true},
      {.name = "Lazy", .options = {.size = odd, .lazy_refcounts = true}},
      {.name = "Zstd",
       .options = {.size = odd, .compression = qcow2::Compression::kZstd},
       .backing = true},
      {.name = "DataFile", .options = {.size = odd, .data_file = "data"}, .snapshots = false},
      {.name = "DataFileBacking",
       .options = {.size = odd, .data_file = "data"},
       .backing = true,
       .snapshots = false},
      {.name = "DataFileRaw",
       .options = {.size = odd, .data_file = "data", .data_file_raw = true},
       .snapshots = false},
      {.name = "DataFileSubclusters",
       .options = {.size = odd, .extended_l2 = true, .data_file = "data"},
       .snapshots = false},
  };
}

class Qcow2Random : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    if (!have_qemu_img()) GTEST_SKIP() << "qemu-utils not installed";
    auto options = GetParam().options;
    shadow_.resize(options.size);
    if (GetParam().backing) {
      // Shorter than the image above it.
      std::vector<uint8_t> below(options.size * 3 / 4 / 512 * 512);
      for (size_t i = 0; i < below.size(); i += 512)
        if (random_() % 3 != 0) std::memset(&below[i], static_cast<int>(random_() % 255 + 1), 512);
      std::ofstream(folder_.path("base"), std::ios::binary)
          .write(reinterpret_cast<const char*>(below.data()),
                 static_cast<std::streamsize>(below.size()));
      std::ranges::copy(below, shadow_.begin());
      options.backing_file = "base";
      options.backing_format = "raw";
    }
    // QEMU takes its name from the current folder on, not from the image's.
    if (!options.data_file.empty()) options.data_file = folder_.path("data");
    make_qcow2(path_, options);
  }

  uint64_t between(uint64_t low, uint64_t high) {
    return std::uniform_int_distribution<uint64_t>(low, high)(random_);
  }

  /// A few requests that do not overlap, all at once.
  void several(BlockDevice& device) {
    std::vector<std::future<int>> results;
    std::vector<std::unique_ptr<std::vector<uint8_t>>> memory;
    std::vector<std::pair<uint64_t, std::vector<uint8_t>*>> reads;
    const uint64_t sectors = shadow_.size() / 512;
    const uint64_t parts = 6;
    for (uint64_t part = 0; part < parts; ++part) {
      const uint64_t low = sectors * part / parts, high = sectors * (part + 1) / parts;
      const uint64_t first = between(low, high - 1);
      const uint64_t most =
          between(0, 3) == 0 ? high - first : std::min<uint64_t>(high - first, 40);
      const uint64_t count = between(1, most);
      const uint64_t offset = first * 512;
      const size_t length = count * 512;
      auto promise = std::make_shared<std::promise<int>>();
      results.push_back(promise->get_future());
      Request request{.offset = offset, .length = length};
      request.done = [promise](int error) { promise->set_value(error); };
      memory.push_back(std::make_unique<std::vector<uint8_t>>(length));
      auto& bytes = *memory.back();
      switch (between(0, 9)) {
        case 0:
        case 1:
          request.kind = Request::Kind::kWriteZeroes;
          request.may_unmap = between(0, 1) == 0;
          std::memset(&shadow_[offset], 0, length);
          break;
        case 2:
          request.kind = Request::Kind::kDiscard;
          // What a discard leaves behind is free: it is looked at below.
          discarded_.emplace_back(offset, length);
          break;
        case 3:
        case 4:
        case 5:
          request.kind = Request::Kind::kRead;
          request.buffers = {buffer_of(bytes)};
          reads.emplace_back(offset, &bytes);
          break;
        default:
          request.kind = Request::Kind::kWrite;
          for (size_t i = 0; i < length; i += 512)
            std::memset(&bytes[i], static_cast<int>(between(0, 255)), 512);
          request.buffers = {buffer_of(bytes)};
          std::ranges::copy(bytes, shadow_.begin() + static_cast<ptrdiff_t>(offset));
          break;
      }
      device.submit(std::move(request));
    }
    for (auto& result : results) ASSERT_EQ(result.get(), 0);
    for (const auto& [offset, bytes] : reads)
      ASSERT_EQ(std::memcmp(bytes->data(), &shadow_[offset], bytes->size()), 0)
          << "read at " << offset;
    for (const auto& [offset, length] : std::exchange(discarded_, {}))
      settle_discard(device, offset, length);
  }

  /// A sector that was discarded is as it was, or zero.
  void settle_discard(BlockDevice& device, uint64_t offset, size_t length) {
    const auto now = read_at(device, offset, length);
    const std::vector<uint8_t> zero(512);
    for (size_t i = 0; i < length; i += 512) {
      if (std::memcmp(&now[i], &shadow_[offset + i], 512) == 0) continue;
      ASSERT_EQ(std::memcmp(&now[i], zero.data(), 512), 0) << "discarded at " << offset + i;
      std::memset(&shadow_[offset + i], 0, 512);
    }
  }

  void expect_content() {
    std::ofstream(folder_.path("shadow"), std::ios::binary)
        .write(reinterpret_cast<const char*>(shadow_.data()),
               static_cast<std::streamsize>(shadow_.size()));
    const auto [status, text] = run_command("qemu-img compare -f raw -F qcow2 '" +
                                            folder_.path("shadow") + "' '" + path_ + "'");
    EXPECT_EQ(status, 0) << text;
    if (GetParam().options.data_file_raw) {
      const auto raw =
          run_command("cmp '" + folder_.path("shadow") + "' '" + folder_.path("data") + "'");
      EXPECT_EQ(raw.first, 0) << raw.second;
    }
  }

  void snapshot_work() {
    const auto image = open_for_test(path_);
    const auto choice = between(0, 3);
    if (choice == 0 && snapshots_.size() < 2) {
      const auto name = "s" + std::to_string(between(0, 1u << 30));
      const auto made = image->create_snapshot(name);
      // Compressed clusters that share a cluster may leave no room in a narrow refcount.
      if (GetParam().options.refcount_bits < 8 && !made) return;
      ASSERT_TRUE(made) << made.error().message;
      snapshots_[name] = shadow_;
    } else if (choice == 1 && !snapshots_.empty()) {
      const auto applied = image->apply_snapshot(snapshots_.begin()->first);
      ASSERT_TRUE(applied) << applied.error().message;
      shadow_ = snapshots_.begin()->second;
    } else if (choice == 2 && !snapshots_.empty()) {
      const auto deleted = image->delete_snapshot(snapshots_.begin()->first);
      ASSERT_TRUE(deleted) << deleted.error().message;
      snapshots_.erase(snapshots_.begin());
    }
  }

  /// Stores some clusters compressed, with what they have.
  void compress_some() {
    if (!GetParam().options.data_file.empty()) return;
    const auto image = open_for_test(path_);
    const uint64_t cluster = image->header().cluster_size();
    for (uint64_t at = 0; at < shadow_.size(); at += cluster) {
      if (between(0, 3) != 0) continue;
      const std::span bytes(&shadow_[at], std::min<uint64_t>(cluster, shadow_.size() - at));
      const auto packed = image->pack_cluster(std::as_bytes(bytes));
      if (!packed.empty()) {
        ASSERT_EQ(image->write_packed(at, packed), 0);
      }
    }
  }

  /// A tmpfs is quick; the first three see what a disk's file system does.
  const ScratchFolder folder_{GetParam().on_disk ? "." : "/dev/shm"};
  const std::string path_ = folder_.path("disk.qcow2");
  std::mt19937_64 random_{20};
  std::vector<uint8_t> shadow_;
  std::vector<std::pair<uint64_t, size_t>> discarded_;
  std::map<std::string, std::vector<uint8_t>> snapshots_;
};

TEST_P(Qcow2Random, EndsAsTheCopyInMemoryDoes) {
  for (int round = 0; round < 12; ++round) {
    {
      auto layer = open_layer(path_, {});
      ASSERT_TRUE(layer) << layer.error().message;
      LayerDevice device(std::move(*layer), 4, true, false);
      for (int i = 0; i < 25 && !HasFatalFailure(); ++i) {
        several(device);
        if (between(0, 4) == 0) {
          EXPECT_EQ(run(device, {.kind = Request::Kind::kFlush}), 0);
        }
      }
    }
    if (HasFatalFailure()) return;
    if (GetParam().snapshots) snapshot_work();
    if (GetParam().options.compression == qcow2::Compression::kZstd || round % 4 == 1)
      compress_some();
    expect_sound(path_);
    expect_content();
    if (HasFailure()) return;
  }
}

INSTANTIATE_TEST_SUITE_P(All, Qcow2Random, testing::ValuesIn(cases()),
                         [](const auto& one) { return one.param.name; });

}  // namespace
}  // namespace limen::block
