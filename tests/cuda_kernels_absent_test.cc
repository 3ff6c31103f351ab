// A build without CUDA kernels says so.

#include "gtest/gtest.h"
#include "quire/attention.h"

namespace quire {
namespace {

TEST(CudaKernelsAbsentTest, EveryLauncherIsUnimplemented) {
  EXPECT_EQ(cuda::Attention({}, nullptr), LaunchError::kUnimplemented);
  EXPECT_EQ(cuda::AppendKv({}, nullptr), LaunchError::kUnimplemented);
  EXPECT_EQ(cuda::CopyPages({}, nullptr), LaunchError::kUnimplemented);
}

}  // namespace
}  // namespace quire
