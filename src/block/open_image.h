// Opening an image of any format with its whole backing chain.
#pragma once

#include <memory>
#include <string>

#include "base/result.h"
#include "block/block_device.h"
#include "block/layer.h"
#include "block/qcow2/image.h"
#include "block/raw_image.h"

namespace limen::block {

struct LayerOptions {
  OpenOptions file = {};     ///< Of the image itself; its backing images are only read.
  std::string format = {};   ///< "": what the file says of itself.
  bool with_backing = true;  ///< false: what the backing layer has reads as zeroes.
  bool check_only = false;   ///< See qcow2::ImageOptions.
};

/// The image and its backing chain; errors name the image of the chain that is at fault. A chain
/// that bites its tail is refused.
Result<std::unique_ptr<Layer>> open_layer(const std::string& path, const LayerOptions& options);

/// As open_layer() of a qcow2 image; any other is refused.
Result<std::unique_ptr<qcow2::Image>> open_qcow2(const std::string& path,
                                                 const LayerOptions& options);

/// The format that the file says it has, with QEMU's warning for raw that will be written.
Result<std::string> guess_format(const std::string& path, const OpenOptions& options);

/// A chain as a disk for a machine; `options` as the image was opened with.
[[nodiscard]] std::unique_ptr<BlockDevice> layer_as_disk(std::unique_ptr<Layer> layer,
                                                         const OpenOptions& options);

/// As a disk for a machine.
Result<std::unique_ptr<BlockDevice>> open_image(const std::string& path, const std::string& format,
                                                const OpenOptions& options);

/// Where a backing file's name leads from the image that has it: a relative one begins in the
/// image's folder. "file:" and json:{"driver":...} names are understood.
Result<std::string> backing_path(const std::string& image, const std::string& backing);

}  // namespace limen::block
