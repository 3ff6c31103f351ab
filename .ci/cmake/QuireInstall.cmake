# `cmake --install` and the package that find_package(quire CONFIG) reads.

include(CMakePackageConfigHelpers)
include(GNUInstallDirs)

set(package_dir "${CMAKE_INSTALL_LIBDIR}/cmake/quire")

install(TARGETS quire EXPORT quireTargets
  LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}"
  ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}")
install(DIRECTORY "${PROJECT_SOURCE_DIR}/include/quire" DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}"
  FILES_MATCHING PATTERN "*.h")
install(FILES "${PROJECT_SOURCE_DIR}/LICENSE" DESTINATION "${CMAKE_INSTALL_DATADIR}/doc/quire")
install(EXPORT quireTargets NAMESPACE quire:: DESTINATION "${package_dir}")

# A static library's private dependencies are still needed to link it.
set(QUIRE_STATIC ON)
if(BUILD_SHARED_LIBS)
  set(QUIRE_STATIC OFF)
endif()
configure_package_config_file("${CMAKE_CURRENT_LIST_DIR}/quireConfig.cmake.in"
  "${PROJECT_BINARY_DIR}/quireConfig.cmake" INSTALL_DESTINATION "${package_dir}")
# Before 1.0 any minor version may break its users.
write_basic_package_version_file("${PROJECT_BINARY_DIR}/quireConfigVersion.cmake"
  COMPATIBILITY SameMinorVersion)
install(FILES "${PROJECT_BINARY_DIR}/quireConfig.cmake"
              "${PROJECT_BINARY_DIR}/quireConfigVersion.cmake" DESTINATION "${package_dir}")
