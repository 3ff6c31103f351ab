# cmake -D SOURCE=<this folder> -D WORK=<scratch> -P run.cmake

file(REMOVE_RECURSE "${WORK}")
function(run)
  execute_process(COMMAND ${ARGV} COMMAND_ECHO STDOUT COMMAND_ERROR_IS_FATAL ANY)
endfunction()

run(${CMAKE_COMMAND} -G Ninja -S ${SOURCE} -B ${WORK} -D CMAKE_BUILD_TYPE=Debug)
run(${CMAKE_COMMAND} --build ${WORK})
run(${WORK}/add_subdirectory_test)
