#include "block/layer_device.h"

#include <cerrno>
#include <utility>

#include "block/buffers.h"
#include "block/image_file.h"
#include "block/qcow2/image.h"

namespace limen::block {

LayerDevice::LayerDevice(std::unique_ptr<Layer> top, unsigned threads, bool discard,
                         bool flush_writes)
    : top_(std::move(top)), discard_(discard), flush_writes_(flush_writes), workers_(threads) {}

LayerDevice::~LayerDevice() { workers_.wait_idle(); }

void LayerDevice::submit(Request request) {
  workers_.submit([this, request = std::move(request)] {
    const int error = perform(request);
    if (request.done) request.done(error);
  });
}

Result<> LayerDevice::drain() {
  workers_.wait_idle();
  if (const int error = top_->flush(); error != 0)
    return fail_errno(error, fmt::format("flushing image '{}'", top_->path()));
  return {};
}

Result<> LayerDevice::resize(uint64_t size) {
  auto* image = dynamic_cast<qcow2::Image*>(top_.get());
  if (image == nullptr) return BlockDevice::resize(size);
  if (image->read_only()) return fail("Block node is read-only");
  return image->resize(size);
}

int LayerDevice::perform(const Request& request) {
  using Kind = Request::Kind;
  if (request.kind == Kind::kFlush) return top_->flush();
  const bool transfers = request.kind == Kind::kRead || request.kind == Kind::kWrite;
  const uint64_t length = transfers ? total_size(request.buffers) : request.length;
  if (request.offset % kSectorSize != 0 || length % kSectorSize != 0) return EINVAL;
  if (request.offset > size() || length > size() - request.offset) return EIO;
  if (request.kind != Kind::kRead && read_only()) return EROFS;
  if (length == 0) return 0;
  int error = 0;
  switch (request.kind) {
    case Kind::kRead:
      return top_->read(request.offset, request.buffers);
    case Kind::kWrite:
      error = top_->write(request.offset, request.buffers);
      break;
    case Kind::kDiscard:
      error = discard_ ? top_->discard(request.offset, length) : 0;
      break;
    case Kind::kWriteZeroes:
      error = top_->write_zeroes(request.offset, length, request.may_unmap && discard_);
      break;
    case Kind::kFlush:
      return EINVAL;
  }
  return error == 0 && flush_writes_ ? top_->flush() : error;
}

}  // namespace limen::block
