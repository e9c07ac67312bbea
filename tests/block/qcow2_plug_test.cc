// Pulling the plug: a process that writes qcow2 is killed at random moments. What it leaves must be
// sound (qemu-img check; clusters may leak), and have all that was flushed.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <random>
#include <thread>

#include "block/layer_device.h"
#include "block/qcow2_scratch.h"

namespace limen::block {
namespace {

constexpr uint64_t kDisk = uint64_t{8} << 20;
constexpr uint64_t kBlock = 4096;
constexpr uint64_t kBlocks = kDisk / kBlock;
constexpr unsigned kOperations = 6000;
constexpr unsigned kFlushEvery = 12;

struct Operation {
  Request::Kind kind;
  uint64_t first, count;  // in blocks
};

/// The same list in the process that writes and in the one that looks.
std::vector<Operation> operations(uint64_t seed) {
  std::mt19937_64 random(seed);
  const auto between = [&random](uint64_t low, uint64_t high) {
    return std::uniform_int_distribution<uint64_t>(low, high)(random);
  };
  std::vector<Operation> list;
  for (unsigned i = 0; i < kOperations; ++i) {
    const auto choice = between(0, 9);
    const auto kind = choice == 0   ? Request::Kind::kDiscard
                      : choice == 1 ? Request::Kind::kWriteZeroes
                                    : Request::Kind::kWrite;
    const uint64_t first = between(0, kBlocks - 1);
    const uint64_t most = choice == 9 ? 200 : 20;
    list.push_back({kind, first, between(1, std::min(most, kBlocks - first))});
  }
  return list;
}

/// Each 8 bytes of a written block are its operation's number, from 1 on.
std::vector<uint64_t> content(uint64_t number, uint64_t blocks) {
  return std::vector<uint64_t>(blocks * kBlock / 8, number);
}

/// In the child: writes until it is killed. Says how many operations are flushed.
[[noreturn]] void write_until_killed(const std::string& path, uint64_t seed, int said) {
  auto layer = open_layer(path, {});
  if (!layer) ::_exit(2);
  // Operations that touch the same blocks must not overtake each other; the others may.
  LayerDevice device(std::move(*layer), 3, true, false);
  const auto list = operations(seed);
  std::vector<std::pair<Operation, std::future<int>>> running;
  const auto settle = [&running] {
    for (auto& [operation, result] : running)
      if (result.get() != 0) ::_exit(3);
    running.clear();
  };
  std::vector<std::shared_ptr<std::vector<uint64_t>>> kept;
  for (uint64_t i = 0; i < list.size(); ++i) {
    const auto& operation = list[i];
    for (const auto& [other, result] : running)
      if (other.first < operation.first + operation.count &&
          operation.first < other.first + other.count) {
        settle();
        break;
      }
    if (i % kFlushEvery == 0) {
      settle();
      if (run(device, {.kind = Request::Kind::kFlush}) != 0) ::_exit(4);
      if (::write(said, &i, sizeof i) != sizeof i) ::_exit(5);
      kept.clear();
    }
    Request request{.kind = operation.kind,
                    .offset = operation.first * kBlock,
                    .length = operation.count * kBlock,
                    .may_unmap = true};
    if (operation.kind == Request::Kind::kWrite) {
      kept.push_back(std::make_shared<std::vector<uint64_t>>(content(i + 1, operation.count)));
      request.buffers = {{kept.back()->data(), kept.back()->size() * 8}};
    }
    auto promise = std::make_shared<std::promise<int>>();
    running.emplace_back(operation, promise->get_future());
    request.done = [promise](int error) { promise->set_value(error); };
    device.submit(std::move(request));
  }
  settle();
  ::_exit(0);
}

/// What each sector may have: what the last flushed operation on it wrote, or a later one.
void expect_flushed(const std::string& path, uint64_t seed, uint64_t flushed, uint64_t below) {
  const auto list = operations(seed);
  const auto image = open_for_test(path, true);
  ASSERT_NE(image, nullptr);
  std::vector<uint64_t> bytes(kDisk / 8);
  const iovec buffer = {bytes.data(), kDisk};
  ASSERT_EQ(image->read(0, {&buffer, 1}), 0);
  std::vector<std::vector<uint64_t>> allowed(kBlocks, {below});
  for (uint64_t i = 0; i < list.size(); ++i)
    for (uint64_t block = list[i].first; block < list[i].first + list[i].count; ++block) {
      // A discard may leave what was there.
      if (i < flushed && list[i].kind != Request::Kind::kDiscard) allowed[block].clear();
      allowed[block].push_back(list[i].kind == Request::Kind::kWrite ? i + 1 : 0);
    }
  for (uint64_t at = 0; at < bytes.size(); at += 64) {
    const auto& may = allowed[at * 8 / kBlock];
    const uint64_t value = bytes[at];
    for (uint64_t i = 1; i < 64; ++i)
      ASSERT_EQ(bytes[at + i], value) << "torn sector at " << at * 8;
    ASSERT_NE(std::ranges::find(may, value), may.end())
        << "at " << at * 8 << " stands what operation " << value << " wrote; flushed were "
        << flushed;
  }
}

struct Case {
  std::string name;
  qcow2::CreateOptions options;
  int kills;
  bool in_memory;  ///< On a tmpfs: far more happens between two kills, and nothing is written back.
};

void PrintTo(const Case& chosen, std::ostream* out) { *out << chosen.name; }

class Qcow2Plug : public testing::TestWithParam<Case> {};

TEST_P(Qcow2Plug, LeavesASoundImageWithAllThatWasFlushed) {
  if (!have_qemu_img()) GTEST_SKIP() << "qemu-utils not installed";
  const ScratchFolder folder(GetParam().in_memory ? "/dev/shm" : ".");
  const auto path = folder.path("disk.qcow2");
  auto options = GetParam().options;
  options.size = kDisk;
  uint64_t below = 0;
  if (!options.backing_file.empty()) {
    below = UINT64_MAX;
    ASSERT_TRUE(create_image(folder.path("base"), kDisk));
    const auto base = RawImage::open(folder.path("base"), {}).value();
    ASSERT_EQ(write_at(*base, 0, std::vector<uint8_t>(kDisk, 0xFF)), 0);
  }
  std::mt19937_64 random(options.cluster_size + options.refcount_bits);
  uint64_t furthest = 0;
  for (int kill = 0; kill < GetParam().kills && !testing::Test::HasFailure(); ++kill) {
    make_qcow2(path, options);
    const uint64_t seed = random();
    int ends[2];
    ASSERT_EQ(::pipe(ends), 0);
    const pid_t child = ::fork();
    if (child == 0) {
      ::close(ends[0]);
      write_until_killed(path, seed, ends[1]);
    }
    ::close(ends[1]);
    uint64_t flushed = 0, next = 0;
    const auto read_next = [&] { return ::read(ends[0], &next, sizeof next) == sizeof next; };
    // Once at least it gets somewhere, however slow this machine is.
    while (kill == 0 && flushed <= 3 * kFlushEvery && read_next()) flushed = next;
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 150'000));
    ::kill(child, SIGKILL);
    int status = 0;
    ::waitpid(child, &status, 0);
    ASSERT_TRUE(WIFSIGNALED(status) || WEXITSTATUS(status) == 0) << WEXITSTATUS(status);
    while (read_next()) flushed = next;
    ::close(ends[0]);
    furthest = std::max(furthest, flushed);
    SCOPED_TRACE(fmt::format("kill {}, seed {}, {} operations flushed", kill, seed, flushed));
    if (options.lazy_refcounts) {
      // Whoever opens it counts again.
      ASSERT_NE(open_for_test(path), nullptr);
      expect_sound(path);
    } else {
      expect_sound(path, true);
    }
    expect_flushed(path, seed, flushed, below);
  }
  EXPECT_GT(furthest, 3 * kFlushEvery) << "the process was killed before it did anything";
}

INSTANTIATE_TEST_SUITE_P(
    All, Qcow2Plug,
    testing::Values(Case{"Plain", {}, 70, true},
                    Case{"Backing", {.backing_file = "base", .backing_format = "raw"}, 50, true},
                    Case{"SmallClusters", {.cluster_size = 4096, .refcount_bits = 64}, 40, true},
                    Case{"Subclusters",
                         {.extended_l2 = true, .backing_file = "base", .backing_format = "raw"},
                         40,
                         false},
                    Case{"Version2", {.version = 2}, 20, false},
                    Case{"Lazy", {.lazy_refcounts = true}, 20, false}),
    [](const auto& one) { return one.param.name; });

}  // namespace
}  // namespace limen::block
