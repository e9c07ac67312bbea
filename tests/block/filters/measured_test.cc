#include "block/filters/measured.h"

#include <gtest/gtest.h>

namespace limen::block {
namespace {

/// Answers every request at once with `error`.
class Answering final : public BlockDevice {
 public:
  explicit Answering(const int& error) : error_(error) {}
  [[nodiscard]] uint64_t size() const override { return 1 << 20; }
  [[nodiscard]] bool read_only() const override { return false; }
  [[nodiscard]] bool supports_discard() const override { return true; }
  void submit(Request request) override { request.done(error_); }
  Result<> drain() override { return {}; }

 private:
  const int& error_;
};

TEST(Measured, CountsWhatWasDoneByKind) {
  int error = 0;
  Measured disk(std::make_unique<Answering>(error));
  int answers = 0;
  char bytes[1024];
  const auto submit = [&](Request::Kind kind, uint64_t offset, uint64_t length) {
    Request request{.kind = kind, .offset = offset, .length = length};
    if (length == 0 && kind != Request::Kind::kFlush)
      request.buffers = {{bytes, 512}, {bytes, 1024}};
    request.done = [&](int) { ++answers; };
    disk.submit(std::move(request));
  };
  submit(Request::Kind::kRead, 0, 0);
  submit(Request::Kind::kWrite, 4096, 0);
  submit(Request::Kind::kFlush, 0, 0);
  submit(Request::Kind::kDiscard, 65536, 8192);
  error = EIO;
  submit(Request::Kind::kWrite, 8192, 0);
  EXPECT_EQ(answers, 5);
  EXPECT_EQ(disk.counts(Request::Kind::kRead).bytes, 1536u);
  EXPECT_EQ(disk.counts(Request::Kind::kWrite).operations, 1u);
  EXPECT_EQ(disk.counts(Request::Kind::kWrite).failed, 1u);
  EXPECT_EQ(disk.counts(Request::Kind::kFlush).operations, 1u);
  EXPECT_EQ(disk.counts(Request::Kind::kDiscard).bytes, 8192u);
  EXPECT_EQ(disk.highest_written(), 4096u + 1536u);
  EXPECT_EQ(disk.size(), 1u << 20);
}

}  // namespace
}  // namespace limen::block
