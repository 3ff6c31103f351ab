# cmake -D BUILD=<a build of Quire> -D SOURCE=<this folder> -D WORK=<scratch> -P run.cmake
#
# Installs the build, builds the program against the installed tree alone, and runs it.

file(REMOVE_RECURSE "${WORK}")
function(run)
  execute_process(COMMAND ${ARGV} COMMAND_ECHO STDOUT COMMAND_ERROR_IS_FATAL ANY)
endfunction()

run(${CMAKE_COMMAND} --install ${BUILD} --prefix ${WORK}/prefix)
run(${CMAKE_COMMAND} -G Ninja -S ${SOURCE} -B ${WORK}/build -D CMAKE_PREFIX_PATH=${WORK}/prefix)
run(${CMAKE_COMMAND} --build ${WORK}/build)
run(${WORK}/build/install_test)
if(NOT EXISTS "${WORK}/prefix/share/doc/quire/LICENSE")
  message(FATAL_ERROR "the licence was not installed")
endif()
