// A build without CUDA says so, and what to do.

#include <string>

#include "gtest/gtest.h"
#include "quire/attention.h"
#include "quire/device.h"

namespace quire {
namespace {

TEST(CudaDeviceAbsentTest, SaysWhatToDo) {
  const auto device = NewCudaDevice(DeviceOptions{}, 0);
  ASSERT_EQ(device.status().code(), absl::StatusCode::kUnimplemented);
  EXPECT_NE(std::string(device.status().message()).find("QUIRE_CUDA"), std::string::npos);
  EXPECT_NE(std::string(device.status().message()).find("NewCpuDevice"), std::string::npos);
}

TEST(CudaDeviceAbsentTest, LaunchersAnswerUnimplemented) {
  EXPECT_EQ(cuda::Attention(AttentionParams{}, nullptr), LaunchError::kUnimplemented);
  EXPECT_EQ(cuda::AppendKv(AppendKvParams{}, nullptr), LaunchError::kUnimplemented);
  EXPECT_EQ(cuda::CopyPages(CopyPagesParams{}, nullptr), LaunchError::kUnimplemented);
}

}  // namespace
}  // namespace quire
