@echo off
rem Starling's one command on Windows: starling, starling demo, starling test, starling setup.
setlocal
for %%v in (3.12 3.11 3.13) do (
    py -%%v -c "import sys" >nul 2>&1 && (
        py -%%v "%~dp0packaging\bootstrap.py" %*
        goto done
    )
)
python -c "import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))" >nul 2>&1 && (
    python "%~dp0packaging\bootstrap.py" %*
    goto done
)
echo Starling needs Python 3.11 to 3.13, not found on this computer. 1>&2
echo     winget install Python.Python.3.12 1>&2
exit /b 1
:done
exit /b %errorlevel%
