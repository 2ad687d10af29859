// The projects of the comparison: what people really put together, and what is hard for a resolver.

const react = (version) => ({ react: version, 'react-dom': version })
const workspaces = (root, members) => ({ ...root, workspaces: members.map(([place]) => place), members: Object.fromEntries(members) })

/** Name to package.json. */
export const projects = {
  // Servers.
  express: { dependencies: { express: '^4.18' } },
  'express-5': { dependencies: { express: '^5', 'body-parser': '^2', cors: '^2', helmet: '^8', morgan: '^1' } },
  fastify: { dependencies: { fastify: '^4', '@fastify/cors': '^9', mongoose: '^8', 'socket.io': '^4', pino: '^9' } },
  nestjs: {
    dependencies: {
      '@nestjs/common': '^10', '@nestjs/core': '^10', '@nestjs/platform-express': '^10', '@nestjs/typeorm': '^10',
      '@nestjs/config': '^3', '@nestjs/swagger': '^7', '@nestjs/jwt': '^10', typeorm: '^0.3', pg: '^8',
      'reflect-metadata': '^0.1.13', rxjs: '^7',
    },
    devDependencies: { '@nestjs/cli': '^10', '@nestjs/testing': '^10', typescript: '^5', jest: '^29', 'ts-jest': '^29' },
  },
  strapi: { dependencies: { '@strapi/strapi': '^4.25', '@strapi/plugin-users-permissions': '^4.25', ...react('^18'), 'react-router-dom': '^5.2', 'styled-components': '^5.2', 'better-sqlite3': '8.6.0' } },
  apollo: {
    dependencies: { '@apollo/server': '^4', '@apollo/client': '^3.10', graphql: '^16', 'graphql-tag': '^2' },
    devDependencies: { '@graphql-codegen/cli': '^5', '@graphql-codegen/typescript': '^4' },
  },
  prisma: { dependencies: { '@prisma/client': '^5' }, devDependencies: { prisma: '^5', typescript: '^5', 'ts-node': '^10' } },

  // Frameworks of the browser.
  next: { dependencies: { next: '^15', ...react('^19') } },
  'next-13': { dependencies: { next: '^13', ...react('^18') }, devDependencies: { eslint: '^8', 'eslint-config-next': '^13', typescript: '^5' } },
  'react-scripts': { dependencies: { 'react-scripts': '5.0.1', ...react('^18') } },
  'react-scripts-typescript': { dependencies: { 'react-scripts': '5.0.1', ...react('^18'), typescript: '^4.9', '@testing-library/react': '^13', '@testing-library/jest-dom': '^5', 'web-vitals': '^2' } },
  'angular-17': {
    dependencies: {
      '@angular/animations': '^17', '@angular/common': '^17', '@angular/compiler': '^17', '@angular/core': '^17', '@angular/forms': '^17',
      '@angular/platform-browser': '^17', '@angular/platform-browser-dynamic': '^17', '@angular/router': '^17', rxjs: '~7.8.0', tslib: '^2.3.0', 'zone.js': '~0.14.3',
    },
    devDependencies: {
      '@angular-devkit/build-angular': '^17', '@angular/cli': '^17', '@angular/compiler-cli': '^17', '@types/jasmine': '~5.1.0', 'jasmine-core': '~5.1.0',
      karma: '~6.4.0', 'karma-chrome-launcher': '~3.2.0', 'karma-coverage': '~2.2.0', 'karma-jasmine': '~5.1.0', 'karma-jasmine-html-reporter': '~2.1.0', typescript: '~5.4.2',
    },
  },
  'angular-12': {
    dependencies: { '@angular/core': '~12.2.0', '@angular/common': '~12.2.0', '@angular/material': '^12', '@angular/cdk': '^12', '@angular/animations': '~12.2.0', '@angular/forms': '~12.2.0', '@angular/platform-browser': '~12.2.0', rxjs: '~6.6.0', 'zone.js': '~0.11.4' },
    devDependencies: { '@angular-devkit/build-angular': '~12.2.0', '@angular/cli': '~12.2.0', '@angular/compiler-cli': '~12.2.0', '@angular/compiler': '~12.2.0', typescript: '~4.3.5' },
  },
  nuxt: { dependencies: { nuxt: '^3.13', vue: '^3', 'vue-router': '^4' } },
  'vue-vite': { dependencies: { vue: '^3', 'vue-router': '^4', pinia: '^2' }, devDependencies: { vite: '^5', '@vitejs/plugin-vue': '^5', vitest: '^2', 'vue-tsc': '^2', typescript: '~5.5', '@vue/test-utils': '^2', jsdom: '^24' } },
  'vue-cli': { dependencies: { vue: '^2.7', 'core-js': '^3' }, devDependencies: { '@vue/cli-service': '~5.0.0', '@vue/cli-plugin-babel': '~5.0.0', '@vue/cli-plugin-eslint': '~5.0.0', '@babel/core': '^7', '@babel/eslint-parser': '^7', eslint: '^7', 'eslint-plugin-vue': '^8' } },
  svelte: { devDependencies: { svelte: '^4', '@sveltejs/kit': '^2', '@sveltejs/adapter-auto': '^3', '@sveltejs/vite-plugin-svelte': '^3', 'svelte-check': '^3', vite: '^5', typescript: '^5' } },
  remix: { dependencies: { '@remix-run/node': '^2', '@remix-run/react': '^2', '@remix-run/serve': '^2', ...react('^18'), isbot: '^4' }, devDependencies: { '@remix-run/dev': '^2', vite: '^5', typescript: '^5' } },
  astro: { dependencies: { astro: '^4', '@astrojs/react': '^3', '@astrojs/mdx': '^3', '@astrojs/tailwind': '^5', tailwindcss: '^3', ...react('^18') } },
  gatsby: { dependencies: { gatsby: '^5', 'gatsby-plugin-image': '^3', 'gatsby-plugin-sharp': '^5', 'gatsby-transformer-sharp': '^5', 'gatsby-source-filesystem': '^5', ...react('^18') } },
  docusaurus: { dependencies: { '@docusaurus/core': '^3', '@docusaurus/preset-classic': '^3', '@mdx-js/react': '^3', clsx: '^2', 'prism-react-renderer': '^2', ...react('^18') } },
  redux: { dependencies: { '@reduxjs/toolkit': '^2', 'react-redux': '^9', 'redux-saga': '^1', ...react('^18'), 'react-router-dom': '^6', axios: '^1', formik: '^2', yup: '^1' } },
  material: { dependencies: { '@mui/material': '^5', '@mui/icons-material': '^5', '@mui/x-data-grid': '^7', '@emotion/react': '^11', '@emotion/styled': '^11', ...react('^18') } },
  'preact-compat': { dependencies: { preact: '^10', react: 'npm:@preact/compat@^17', 'react-dom': 'npm:@preact/compat@^17', 'react-redux': '^8', redux: '^4' } },

  // Phones and desktops.
  expo: { dependencies: { expo: '^51', 'expo-router': '~3.5', 'expo-status-bar': '~1.12', react: '18.2.0', 'react-native': '0.74.5', 'react-native-screens': '3.31.1', 'react-native-safe-area-context': '4.10.5' } },
  'react-native': { dependencies: { react: '18.2.0', 'react-native': '0.73.6' }, devDependencies: { '@react-native/metro-config': '^0.73', '@react-native/babel-preset': '^0.73', '@babel/core': '^7', jest: '^29', typescript: '5.0.4' } },
  electron: { devDependencies: { electron: '^28', 'electron-builder': '^24', '@electron-forge/cli': '^7' } },
  ionic: { dependencies: { '@ionic/react': '^8', '@ionic/react-router': '^8', ...react('^18'), 'react-router': '^5', 'react-router-dom': '^5', '@capacitor/core': '^6' }, devDependencies: { '@capacitor/cli': '^6', '@types/react-router-dom': '^5' } },

  // Tools.
  'eslint-airbnb': { devDependencies: { eslint: '^8', 'eslint-config-airbnb': '^19', 'eslint-plugin-import': '^2', 'eslint-plugin-jsx-a11y': '^6', 'eslint-plugin-react': '^7', 'eslint-plugin-react-hooks': '^4' } },
  'eslint-9': { devDependencies: { eslint: '^9', 'typescript-eslint': '^8', 'eslint-plugin-vue': '^9', 'eslint-config-prettier': '^9', 'eslint-plugin-prettier': '^5', prettier: '^3', typescript: '~5.6' } },
  'eslint-9-old-plugin': { devDependencies: { eslint: '^9', 'eslint-config-airbnb-base': '^15', 'eslint-plugin-import': '^2.29' } },
  'typescript-eslint-5': { devDependencies: { '@typescript-eslint/eslint-plugin': '^5', '@typescript-eslint/parser': '^5', eslint: '^8', typescript: '~4.9', 'eslint-plugin-jest': '^27', 'eslint-import-resolver-typescript': '^3', 'eslint-plugin-import': '^2' } },
  webpack: { devDependencies: { webpack: '^5', 'webpack-cli': '^5', 'webpack-dev-server': '^4', 'html-webpack-plugin': '^5', 'css-loader': '^6', 'style-loader': '^3', 'sass-loader': '^13', sass: '^1', 'mini-css-extract-plugin': '^2', 'babel-loader': '^9', '@babel/core': '^7', '@babel/preset-env': '^7', 'terser-webpack-plugin': '^5' } },
  'webpack-4': { devDependencies: { webpack: '^4', 'webpack-cli': '^3', 'webpack-dev-server': '^3', 'html-webpack-plugin': '^4', 'css-loader': '^5', 'babel-loader': '^8', '@babel/core': '^7', 'node-sass': '^4' } },
  jest: { dependencies: react('^18'), devDependencies: { jest: '^29', 'ts-jest': '^29', 'babel-jest': '^29', 'jest-environment-jsdom': '^29', '@testing-library/react': '^14', '@testing-library/user-event': '^14', typescript: '^5' } },
  mocha: { devDependencies: { mocha: '^10', chai: '^4', sinon: '^17', nyc: '^15', 'ts-node': '^10', typescript: '^5', 'chai-as-promised': '^7', 'sinon-chai': '^3' } },
  'storybook-8': { dependencies: react('^18'), devDependencies: { storybook: '^8', '@storybook/react-vite': '^8', '@storybook/react': '^8', '@storybook/addon-essentials': '^8', '@storybook/test': '^8', vite: '^5' } },
  'storybook-7': { dependencies: react('^17'), devDependencies: { storybook: '^7.6', '@storybook/react-webpack5': '^7.6', '@storybook/react': '^7.6', '@storybook/addon-essentials': '^7.6', '@storybook/addon-interactions': '^7.6' } },
  rollup: { devDependencies: { rollup: '^4', '@rollup/plugin-node-resolve': '^15', '@rollup/plugin-commonjs': '^25', '@rollup/plugin-typescript': '^11', '@rollup/plugin-terser': '^0.4', '@rollup/plugin-babel': '^6', '@babel/core': '^7', tslib: '^2', typescript: '^5' } },
  parcel: { devDependencies: { parcel: '^2', '@parcel/transformer-sass': '^2' } },
  gulp: { devDependencies: { gulp: '^4', 'gulp-sass': '^5', 'gulp-uglify': '^3', 'gulp-sourcemaps': '^3', 'gulp-autoprefixer': '^8', 'browser-sync': '^2' } },
  lerna: { devDependencies: { lerna: '^8', nx: '^19' } },
  'semantic-release': { devDependencies: { 'semantic-release': '^24', '@semantic-release/changelog': '^6', '@semantic-release/git': '^10', husky: '^9', '@commitlint/cli': '^19', '@commitlint/config-conventional': '^19' } },
  serverless: { devDependencies: { serverless: '^3', 'serverless-offline': '^13', 'serverless-webpack': '^5', webpack: '^5' } },
  aws: { dependencies: { '@aws-sdk/client-s3': '^3', '@aws-sdk/client-dynamodb': '^3', '@aws-sdk/lib-dynamodb': '^3', 'aws-cdk-lib': '^2', constructs: '^10' }, devDependencies: { 'aws-cdk': '^2' } },
  firebase: { dependencies: { firebase: '^10', 'firebase-admin': '^12', 'firebase-functions': '^5' }, devDependencies: { 'firebase-tools': '^13' } },
  browsers: { devDependencies: { cypress: '^13', playwright: '^1', puppeteer: '^22', '@wdio/cli': '^8' } },
  ember: { devDependencies: { 'ember-cli': '~5.4', 'ember-source': '~5.4', '@glimmer/component': '^1', '@ember/test-helpers': '^3', 'ember-qunit': '^8', qunit: '^2', webpack: '^5' } },

  // Shapes that are hard by themselves.
  aliases: { dependencies: { 'react-16': 'npm:react@^16', 'react-17': 'npm:react@^17', react: '^18', 'lodash-3': 'npm:lodash@^3', lodash: '^4', 'string-width-cjs': 'npm:string-width@^4.2.0', 'string-width': '^5', '@isaacs/cliui': '^8' } },
  overrides: { devDependencies: { rimraf: '^3', mocha: '^10', glob: '^7' }, overrides: { minimatch: '^5', 'brace-expansion@^1': '1.1.11', mocha: { yargs: '16.1.0' } } },
  'overrides-referring': { dependencies: { react: '^18.2.0', 'react-dom': '^18.2.0', 'react-beautiful-dnd': '^13', '@material-ui/core': '^4' }, overrides: { react: '$react', 'react-dom': '$react-dom' } },
  platforms: { dependencies: { esbuild: '^0.21', '@swc/core': '^1.6', sharp: '^0.33', lightningcss: '^1.25', rollup: '^4', chokidar: '^3', '@parcel/watcher': '^2', turbo: '^2', '@biomejs/biome': '^1' } },
  bundled: { dependencies: { npm: '^10', 'node-gyp': '^10', '@mapbox/node-pre-gyp': '^1', 'node-pre-gyp': '^0.17' }, optionalDependencies: { '@tailwindcss/oxide-wasm32-wasi': '^4.1' } },
  tags: { dependencies: { react: 'latest', 'react-dom': 'latest', typescript: 'latest', npm: 'latest', vue: 'legacy', esbuild: '*', semver: 'x', chalk: '' } },
  ranges: { dependencies: { react: '>=16.8 <18 || ^18.2', lodash: '4.x', debug: '~2 || ~3.1', semver: '5 - 6', chalk: '>1 <=2.4', uuid: '=3.4.0', ms: 'v2.0.0', glob: '7.*', 'core-js': '2 || 3' } },
  deprecated: { dependencies: { request: '^2', 'node-uuid': '^1', 'har-validator': '^5', 'core-js': '^2', uuid: '^3', 'babel-eslint': '^10', tslint: '^6', typescript: '^4', 'left-pad': '^1' } },
  'peers-of-peers': { dependencies: { '@apollo/client': '^3', 'react-admin': '^4', 'ra-data-simple-rest': '^4', ...react('^18') } },
  'optional-peers': { dependencies: { typeorm: '^0.3', knex: '^3', ws: '^8', 'ts-node': '^10', vite: '^5', postcss: '^8', 'postcss-loader': '^8', 'sass-loader': '^14' } },
  'root-peers': { peerDependencies: { ...react('>=17'), webpack: '^5' }, peerDependenciesMeta: { webpack: { optional: true } }, devDependencies: { '@testing-library/react': '^14', 'html-webpack-plugin': '^5' }, optionalDependencies: { fsevents: '^2', bufferutil: '^4' } },

  // Packages of the project's own.
  'workspaces-web': workspaces({ devDependencies: { typescript: '^5', eslint: '^8' } }, [
    ['apps/web', { name: 'web', version: '0.1.0', dependencies: { 'react-scripts': '5.0.1', ...react('^18'), '@own/ui': '^1.0.0' } }],
    ['packages/ui', { name: '@own/ui', version: '1.2.0', peerDependencies: { react: '>=16' }, devDependencies: { typescript: '~4.9', '@testing-library/react': '^13' } }],
  ]),
  'workspaces-servers': workspaces({}, [
    ['api', { name: 'api', version: '1.0.0', dependencies: { express: '^4.18', shared: '*', 'body-parser': '^2' } }],
    ['admin', { name: 'admin', version: '1.0.0', dependencies: { express: '^5', shared: '^2.0.0', morgan: '^1' } }],
    ['shared', { name: 'shared', version: '2.1.0', dependencies: { debug: '~2 || ~3.1', lodash: '4.x' } }],
  ]),
  'workspaces-lint': workspaces({ devDependencies: { eslint: '^8', typescript: '^5' } }, [
    ['packages/old', { name: 'old', version: '1.0.0', devDependencies: { eslint: '^7', '@typescript-eslint/parser': '^5', typescript: '~4.9', webpack: '^4' } }],
    ['packages/new', { name: 'new', version: '1.0.0', devDependencies: { jest: '^29', 'ts-jest': '^29', webpack: '^5', 'babel-loader': '^9', '@babel/core': '^7' } }],
  ]),
  'workspaces-react': workspaces({}, [
    ['apps/seventeen', { name: 'seventeen', version: '1.0.0', dependencies: { ...react('^17'), 'react-redux': '^8', redux: '^4' } }],
    ['apps/eighteen', { name: 'eighteen', version: '1.0.0', dependencies: { ...react('^18'), '@mui/material': '^5', '@emotion/react': '^11', '@emotion/styled': '^11', hooks: '1' } }],
    ['packages/hooks', { name: 'hooks', version: '1.0.0', peerDependencies: react('^17 || ^18'), peerDependenciesMeta: { 'react-dom': { optional: true } } }],
  ]),
  'workspaces-overrides': workspaces({ devDependencies: { rimraf: '^3' }, overrides: { minimatch: '^5', 'brace-expansion@^1': '1.1.11', tests: { mocha: { yargs: '16.1.0' } } } }, [
    ['tests', { name: 'tests', version: '1.0.0', devDependencies: { mocha: '^10', glob: '^7' } }],
    ['tools', { name: 'tools', version: '1.0.0', dependencies: { mocha: '^10', glob: '^7', chokidar: '^3' } }],
  ]),
  // A member is called like a package of the registry, of which others want a version that it is not.
  'workspaces-shadow': workspaces({ dependencies: { lodash: '^9' } }, [
    ['packages/lodash', { name: 'lodash', version: '9.0.0', dependencies: { ms: 'v2.0.0' } }],
    ['packages/user', { name: 'user', version: '1.0.0', dependencies: { lodash: '^4', '@reduxjs/toolkit': '^2', 'html-webpack-plugin': '^5' }, peerDependencies: { webpack: '^5' } }],
  ]),
  'workspaces-nested': workspaces({ dependencies: { inner: '1' } }, [
    ['packages/outer', { name: 'outer', version: '1.0.0', dependencies: { chalk: '^4', inner: '^1', semver: '^7' } }],
    ['packages/outer/inner', { name: 'inner', version: '1.0.0', dependencies: { chalk: '>1 <=2.4', semver: '5 - 6', debug: '^4' } }],
  ]),

  // What cannot be, or only just.
  'conflict-material': { dependencies: { ...react('^16'), '@mui/material': '^5', '@emotion/react': '^11', '@emotion/styled': '^11' } },
  'conflict-testing': { dependencies: react('^17'), devDependencies: { '@testing-library/react': '^14' } },
  'conflict-angular': { dependencies: { '@angular/core': '^17', '@angular/material': '^15', rxjs: '^7', 'zone.js': '^0.14' } },
  'conflict-eslint': { devDependencies: { eslint: '^9', '@typescript-eslint/parser': '^5' } },
  'bends-wide-range': { dependencies: { react: '>=16', 'react-dom': '>=16', '@material-ui/core': '^4' } },
  'bends-star': { dependencies: { eslint: '*', '@typescript-eslint/parser': '^5', '@typescript-eslint/eslint-plugin': '^5' } },
  missing: { dependencies: { express: '^99' } },
}
